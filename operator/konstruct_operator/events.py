"""Events that `kubectl describe agent` shows: one for each turn that people care about, and no more."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from shared.kube.client import KubeClient
from shared.kube.errors import KubeError
from shared.kube.names import GROUP, VERSION
from shared.kube.objects import ConditionReason, ConditionType, StoredAgent, conditions_of
from shared.turns import Turns

log = logging.getLogger(__name__)

MAX_WAITING = 2000
"""Events that wait to be posted; more are dropped, but for one of each namespace: nothing depends on them."""

MAX_OF_ONE = 500
"""Those of one namespace that wait; the namespaces take turns, so that nobody waits behind all of them."""

POSTERS_OF_ONE = 3
"""Events of one namespace that are posted at once."""

POSTERS = 4
"""Events that are posted at once."""

MAX_NOTE = 1000
"""Longest text of an Event."""

COMPONENT = "konstruct-operator"
"""Who reports."""

_Place = tuple[str, int]

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
    old, new = conditions_of(before), conditions_of(after)
    for kind in _TELLING:
        then, now = old.get(kind), new[kind]
        if then is not None and (then.get("status"), then.get("reason")) == (now["status"], now["reason"]):
            continue
        bad = now["status"] != ("False" if kind is ConditionType.NAME_CONFLICT else "True")
        if bad and now["reason"] != ConditionReason.NOT_ACCEPTED:
            yield Notice("Warning", now["reason"], now["message"])
        elif then is not None and then.get("status") != now["status"] and kind is ConditionType.ACCEPTED:
            yield Notice("Normal", now["reason"], now["message"])
    revision, replaced = after.get("activeRevision"), before.get("activeRevision")
    # Of the first one, that it is in effect says it all, and ten thousand new Agents are ten thousand Events.
    if revision is not None and replaced is not None and revision != replaced:
        note = f"workers are told to answer with revision {revision}, not {replaced}"
        yield Notice("Normal", "RevisionActivated", note)
    now, then = new[ConditionType.CONFIG_SYNCED], old.get(ConditionType.CONFIG_SYNCED)
    if now["status"] == "True" and (then is None or then.get("status") != "True"):
        yield Notice("Normal", "ConfigSynced", f"revision {revision} is in effect: {now['message']}")
    elif now["reason"] == ConditionReason.WORKER_REFUSED and (
        then is None or then.get("reason") != now["reason"]
    ):
        yield Notice("Warning", now["reason"], now["message"])


class EventPoster:
    """Posts Events in the background: a slow or full API server holds up nothing."""

    def __init__(self, client: KubeClient, instance: str) -> None:
        self._client = client
        self._instance = instance
        self._waiting: Turns[_Place] = Turns(lambda place: place[0], POSTERS_OF_ONE)
        self._events: dict[_Place, dict[str, Any]] = {}
        self._numbers = itertools.count()
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
        own = self._waiting.waiting(agent.namespace)
        if own and (own >= MAX_OF_ONE or len(self._waiting) >= MAX_WAITING):
            if not self._dropped:
                log.warning("too many Events wait; those about %s/%s and others are dropped", *agent.ref)
            self._dropped += 1
            return
        place = agent.namespace, next(self._numbers)
        self._events[place] = manifest
        self._waiting.add(place)

    async def run(self) -> None:
        """Post until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(POSTERS):
                group.create_task(self._post(), name=f"events-{number}")

    async def _post(self) -> None:
        while True:
            if self._dropped and not self._waiting:
                log.warning("%d Events were dropped", self._dropped)
                self._dropped = 0
            place = await self._waiting.take()
            try:
                await self._client.create(f"/api/v1/namespaces/{place[0]}/events", self._events.pop(place))
            except KubeError as error:
                log.info("an Event was not posted: %s", error)
            finally:
                self._waiting.done(place)
