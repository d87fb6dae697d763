"""Putting what waits in PostgreSQL into Redis: a few messages of each tenant at a time, in turn.

Redis hands out deliveries in the order they came, whoever they are of. So as few as keep the workers busy
wait there, and places go to the tenant that has the fewest messages queued or under way. Every worker
looks; a lock in PostgreSQL lets one of them at a time find anything.

What is marked as queued and is not (a worker that died in between) is found by :mod:`orchestrator.sweeper`.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from functools import partial

from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from orchestrator.broker import AWAY, QueueView
from orchestrator.faults import Faults
from orchestrator.periodic import Periodic
from orchestrator.queueing import queue
from orchestrator.recording import load, put_in_line, put_off
from shared.models import KonstructMessage
from shared.reply import Reason
from shared.rls import tenant_scope

log = logging.getLogger(__name__)

IDLE_S = 0.25
"""Seconds between two looks while nothing waits."""

BUSY_S = 0.05
"""Seconds between two looks while something does; claims call for more."""

MOST = 200
"""Most messages that one look queues."""

AGAIN_S = 2.0
"""Seconds until a message is looked at again that could not be read or queued, through a fault of its own."""

_DISPATCH = text(
    "select tenant_id, message_id from konstruct_dispatch(:free, :per_tenant, :suspect_from, :most)"
)


class Dispatcher:
    """Queues messages that wait their turn, in a thread of its own."""

    def __init__(
        self, engine: Engine, system_engine: Engine, suspect_from: int, tenant_queued: int, faults: Faults
    ) -> None:
        """Keep what it needs.

        Args:
            engine: As the service role, to read messages.
            system_engine: As the system role, to find them.
            suspect_from: Deaths from which a message is left to the quarantine.
            tenant_queued: Most messages of a tenant that wait in Redis, and of all that it puts there.
            faults: Counts the messages that cannot be queued.
        """
        self._engine = engine
        self._system_engine = system_engine
        self._suspect_from = suspect_from
        self._tenant_queued = tenant_queued
        self._faults = faults
        self._queue = QueueView()
        self._claims = 0
        self._failing = False
        self._periodic = Periodic("dispatcher", IDLE_S, self._look)

    def start(self) -> None:
        """Begin."""
        self._periodic.start()

    def claimed(self) -> None:
        """Note that this worker has claimed a message: there is a place in Redis. Returns at once."""
        self._claims += 1
        if self._periodic.interval_s == BUSY_S and 2 * self._claims >= self._tenant_queued:
            self._periodic.wake()

    def stop(self) -> None:
        """End."""
        self._periodic.stop()
        self._queue.close()

    def _look(self) -> None:
        self._claims = 0
        found = self._queue.count()
        if found is None:
            self._periodic.interval_s = IDLE_S
            return  # nothing can be queued
        free = max(self._tenant_queued - found.waiting, 0)
        try:
            turns = self._take_turns(free)
            self._periodic.interval_s = BUSY_S if turns or not free else IDLE_S
            self._queue_all(turns)
        except SQLAlchemyError as error:
            if not self._failing:
                log.warning("waiting messages cannot be queued: %s", type(error).__name__)
            self._failing = True
        else:
            self._failing = False

    def _take_turns(self, free: int) -> list[tuple[str, str]]:
        """Mark messages as queued, and return whose and which, in the order of their turns."""
        parameters = {
            "free": free,
            "per_tenant": self._tenant_queued,
            "suspect_from": self._suspect_from,
            "most": MOST,
        }
        with self._system_engine.begin() as connection:
            return [(row.tenant_id, row.message_id) for row in connection.execute(_DISPATCH, parameters)]

    def _queue_all(self, turns: list[tuple[str, str]]) -> None:
        """Queue messages; when Redis does not take them all, the others wait again.

        One that cannot be queued holds up no other, whatever the fault.
        """
        stored = self._load(turns)
        left = [stored[turn] for turn in turns if turn in stored]
        try:
            while left:
                self._queue_one(*left[0])
                del left[0]
        except AWAY as error:
            log.warning("%d messages wait again: Redis is away (%s)", len(left), type(error).__name__)
            for message, _ in left:
                with tenant_scope(message.tenant_id):
                    put_in_line(message, on=self._engine)

    def _queue_one(self, message: KonstructMessage, headers: dict[str, str]) -> None:
        try:
            queue(message, headers)
        except AWAY:
            raise
        except Exception:
            log.exception("message %s cannot be queued", message.message_id)
            self._count(message.tenant_id, message.message_id, Reason.INTERNAL_ERROR)

    def _count(self, tenant_id: str, message_id: str, reason: Reason) -> None:
        """Count a fault against a message, and have it wait in line if it was not one too many."""
        if self._faults.count(tenant_id, message_id, reason) is None:
            with tenant_scope(tenant_id):
                put_off(tenant_id, message_id, AGAIN_S, back_in_line=True, on=self._engine)

    def _load(
        self, turns: list[tuple[str, str]]
    ) -> dict[tuple[str, str], tuple[KonstructMessage, dict[str, str]]]:
        """Read messages, each as the tenant it belongs to."""
        wanted: dict[str, list[str]] = defaultdict(list)
        for tenant_id, message_id in turns:
            wanted[tenant_id].append(message_id)
        stored = {}
        for tenant_id, message_ids in wanted.items():
            refuse = partial(self._count, tenant_id, reason=Reason.MESSAGE_INVALID)
            with tenant_scope(tenant_id):
                for message, headers in load(tenant_id, message_ids, on=self._engine, unreadable=refuse):
                    stored[tenant_id, message.message_id] = message, headers
        return stored
