"""What kopf calls: parse, call, report. ``on.event`` alone, so that kopf writes nothing to any object."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import kopf

from shared.kube.names import GROUP, PLURAL, VERSION
from shared.kube.objects import Object


class Listener(Protocol):
    """What wants to know of Agents and Namespaces."""

    def agent_changed(self, item: Object) -> None:
        """Take in an Agent that is there."""

    def agent_gone(self, item: Object) -> None:
        """Take in an Agent as it was before it was deleted."""

    def namespace_changed(self, item: Object) -> None:
        """Take in a Namespace that is there."""

    def namespace_gone(self, name: str) -> None:
        """Take in that a Namespace was deleted."""


def register(registry: kopf.OperatorRegistry, listener: Listener, *, namespaces: bool) -> None:
    """Have kopf watch Agents, and Namespaces where that is allowed."""

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def on_agent(event: kopf.RawEvent, **_: Any) -> None:
        item: Any = event["object"]
        if event["type"] == "DELETED":
            listener.agent_gone(item)
        else:
            listener.agent_changed(item)

    if namespaces:

        @kopf.on.event("", "v1", "namespaces", registry=registry)
        async def on_namespace(event: kopf.RawEvent, **_: Any) -> None:
            item: Any = event["object"]
            if event["type"] == "DELETED":
                listener.namespace_gone(item["metadata"]["name"])
            else:
                listener.namespace_changed(item)


def register_end(registry: kopf.OperatorRegistry, end: Callable[[], Awaitable[None]]) -> None:
    """Have kopf call `end` when it has been told to stop and watches no more."""

    @kopf.on.cleanup(registry=registry)
    async def on_cleanup(**_: Any) -> None:
        await end()
