"""Queueing again what was recorded and is neither finished nor on its way.

PostgreSQL knows every message that was accepted; Redis may lose its copy (a worker that died with it, a
Redis that was emptied, a sender that died between the two). Every worker looks each second; a lock in
PostgreSQL lets one of them at a time find anything. A delivery too many does no harm: claims are exclusive.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable

from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from orchestrator.broker import AWAY, QueueView
from orchestrator.periodic import Periodic
from orchestrator.recording import load
from orchestrator.sending import queue
from shared.rls import tenant_scope

log = logging.getLogger(__name__)

INTERVAL_S = 1.0
"""Seconds between two looks."""

LOST_AFTER_S = 5.0
"""Seconds that a delivery is waited for before it is taken for lost: when Redis holds fewer than there are
unfinished messages, or has none that waits for a worker."""

MOST = 500
"""Most messages that one look queues again."""

_SWEEP = text("select tenant_id, message_id from konstruct_sweep(:held, :lost_after, :suspect_from, :most)")


class Sweeper:
    """Queues unfinished messages again, in a thread of its own."""

    def __init__(
        self, engine: Engine, system_engine: Engine, suspect_from: int, report: Callable[[int], None]
    ) -> None:
        """Keep what it needs.

        Args:
            engine: As the service role, to read messages.
            system_engine: As the system role, to find them.
            suspect_from: Deaths from which a message is left to the quarantine.
            report: Told how many messages were queued again, each time some were.
        """
        self._engine = engine
        self._system_engine = system_engine
        self._suspect_from = suspect_from
        self._report = report
        self._queue = QueueView()
        self._failing = False
        self._periodic = Periodic("sweeper", INTERVAL_S, self._sweep)

    def start(self) -> None:
        """Begin."""
        self._periodic.start()

    def stop(self) -> None:
        """End."""
        self._periodic.stop()
        self._queue.close()

    def _sweep(self) -> None:
        found = self._queue.count()
        if found is None:
            return  # nothing can be queued
        try:
            # While nothing waits, what was queued some seconds ago is held by nobody who lives: it would have
            # been claimed, or put back and noted. Otherwise what the dead hold counts too.
            lost = self._take_lost(found.waiting + found.held if found.waiting else 0)
            for tenant_id, message_ids in lost.items():
                with tenant_scope(tenant_id):
                    for message, headers in load(tenant_id, message_ids, on=self._engine):
                        queue(message, headers)
        except (SQLAlchemyError, *AWAY) as error:
            # What was taken and not queued is lost again, and found again.
            if not self._failing:
                log.warning("unfinished messages cannot be queued again: %s", type(error).__name__)
            self._failing = True
            return
        self._failing = False
        if lost:
            count = sum(map(len, lost.values()))
            self._report(count)
            log.info("queued %d unfinished messages again", count)

    def _take_lost(self, held: int) -> dict[str, list[str]]:
        """Take the messages that have no delivery any more, by tenant."""
        lost: dict[str, list[str]] = defaultdict(list)
        parameters = {
            "held": held,
            "lost_after": LOST_AFTER_S,
            "suspect_from": self._suspect_from,
            "most": MOST,
        }
        with self._system_engine.begin() as connection:
            for tenant_id, message_id in connection.execute(_SWEEP, parameters):
                lost[tenant_id].append(message_id)
        return lost
