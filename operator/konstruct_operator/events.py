"""Events that `kubectl describe agent` shows: one for each turn that people care about, and no more."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from shared.kube.client import KubeClient
from shared.kube.errors import KubeError
from shared.kube.names import GROUP, VERSION
from shared.kube.objects import ConditionReason, ConditionType, StoredAgent

log = logging.getLogger(__name__)

MAX_WAITING = 2000
"""Events that wait to be posted; more are dropped, since nothing depends on them."""

POSTERS = 4
"""Events that are posted at once."""

MAX_NOTE = 1000
"""Longest text of an Event."""

COMPONENT = "konstruct-operator"
"""Who reports."""

_TELLING = (ConditionType.ACCEPTED, ConditionType.NAME_CONFLICT, ConditionType.RENDERED)


@dataclass(frozen=True, slots=True)
class Notice:
    """What an Event says."""

    type: str
    """``Normal`` or ``Warning``."""

    reason: str
    """The cause, in one word."""

    note: str
    """The same, for people."""


def notices(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Notice]:
    """Tell what changed between two statuses, as far as people care."""
    old, new = _by_type(before), _by_type(after)
    for kind in _TELLING:
        then, now = old.get(kind), new[kind]
        if then is not None and (then["status"], then["reason"]) == (now["status"], now["reason"]):
            continue
        bad = now["status"] != ("False" if kind is ConditionType.NAME_CONFLICT else "True")
        if bad and now["reason"] != ConditionReason.NOT_ACCEPTED:
            yield Notice("Warning", now["reason"], now["message"])
        elif then is not None and then["status"] != now["status"] and kind is ConditionType.ACCEPTED:
            yield Notice("Normal", now["reason"], now["message"])
    revision, replaced = after.get("activeRevision"), before.get("activeRevision")
    # Of the first one, that it is in effect says it all, and ten thousand new Agents are ten thousand Events.
    if revision is not None and replaced is not None and revision != replaced:
        note = f"workers are told to answer with revision {revision}, not {replaced}"
        yield Notice("Normal", "RevisionActivated", note)
    now, then = new[ConditionType.CONFIG_SYNCED], old.get(ConditionType.CONFIG_SYNCED)
    if now["status"] == "True" and (then is None or then["status"] != "True"):
        yield Notice("Normal", "ConfigSynced", f"revision {revision} is in effect: {now['message']}")
    elif now["reason"] == ConditionReason.WORKER_REFUSED and (
        then is None or then["reason"] != now["reason"]
    ):
        yield Notice("Warning", now["reason"], now["message"])


def _by_type(status: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {condition["type"]: condition for condition in status.get("conditions") or ()}


class EventPoster:
    """Posts Events in the background: a slow or full API server holds up nothing."""

    def __init__(self, client: KubeClient, instance: str) -> None:
        self._client = client
        self._instance = instance
        self._waiting: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue(MAX_WAITING)
        self._dropped = 0

    def post(self, agent: StoredAgent, notice: Notice) -> None:
        """Have an Event about `agent` posted."""
        now = datetime.now(UTC)
        manifest = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{agent.name}.{uuid4().hex[:16]}", "namespace": agent.namespace},
            "involvedObject": {
                "apiVersion": f"{GROUP}/{VERSION}",
                "kind": "Agent",
                "name": agent.name,
                "namespace": agent.namespace,
                "uid": agent.uid,
            },
            "type": notice.type,
            "reason": notice.reason,
            "message": notice.note[:MAX_NOTE],
            "action": "Reconcile",
            "source": {"component": COMPONENT},
            "reportingComponent": COMPONENT,
            "reportingInstance": self._instance,
            "firstTimestamp": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "lastTimestamp": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "eventTime": None,
            "count": 1,
        }
        try:
            self._waiting.put_nowait((agent.namespace, manifest))
        except asyncio.QueueFull:
            if not self._dropped:
                log.warning("too many Events wait; those about %s/%s and others are dropped", *agent.ref)
            self._dropped += 1

    async def run(self) -> None:
        """Post until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(POSTERS):
                group.create_task(self._post(), name=f"events-{number}")

    async def _post(self) -> None:
        while True:
            if self._dropped and self._waiting.empty():
                log.warning("%d Events were dropped", self._dropped)
                self._dropped = 0
            namespace, manifest = await self._waiting.get()
            try:
                await self._client.create(f"/api/v1/namespaces/{namespace}/events", manifest)
            except KubeError as error:
                log.info("an Event was not posted: %s", error)
