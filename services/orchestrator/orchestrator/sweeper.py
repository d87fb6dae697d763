"""Finding what was queued and is neither finished nor on its way any more, so that it is queued again.

PostgreSQL knows every message that was accepted; Redis may lose its copy (a worker that died with it, a
Redis that was emptied, a sender that died between the two). Every worker looks each second; a lock in
PostgreSQL lets one of them at a time find anything. What is found waits its turn again, and the dispatcher
queues it (:mod:`orchestrator.dispatcher`). A delivery too many does no harm: claims are exclusive.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from orchestrator.broker import QueueView
from orchestrator.periodic import Periodic

log = logging.getLogger(__name__)

INTERVAL_S = 1.0
"""Seconds between two looks."""

LOST_AFTER_S = 5.0
"""Seconds that a delivery is waited for before it is taken for lost: when Redis holds fewer than there are
unfinished messages, has none that waits for a worker, or has handed out what was queued later."""

MOST = 500
"""Most messages that one look finds."""

MEND_EVERY = 30
"""Looks from one search for marks that are missing, and for times far ahead, to the next."""

LONGEST_AHEAD_S = 60.0
"""Seconds, or two leases if that is more: a moment further ahead was written before a clock was set back."""

_MEND = text("select konstruct_mend(:longest_lease)")
_RECLAIM = text("select konstruct_reclaim(:held, :lost_after, :suspect_from, :most)")


class Sweeper:
    """Finds unfinished messages without a delivery, in a thread of its own."""

    def __init__(
        self,
        system_engine: Engine,
        suspect_from: int,
        lease_s: float,
        report: Callable[[int], None],
        report_stranded: Callable[[int], None],
    ) -> None:
        """Keep what it needs.

        Args:
            system_engine: As the system role, to find them.
            suspect_from: Deaths from which a message is left to the quarantine.
            lease_s: Seconds that a claim lasts without a sign of life.
            report: Told how many messages had lost their delivery, each time some had.
            report_stranded: Told how many would have waited for ever, each time some were found.
        """
        self._system_engine = system_engine
        self._suspect_from = suspect_from
        self._longest_lease_s = max(2 * lease_s, LONGEST_AHEAD_S)
        self._report = report
        self._report_stranded = report_stranded
        self._queue = QueueView()
        self._failing = False
        self._looks = 0
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
            # been claimed, or put back in line. Otherwise what the dead hold counts too.
            lost = self._reclaim(found.waiting + found.held if found.waiting else 0)
            self._looks += 1
            if self._looks % MEND_EVERY == 0:
                self._mend()
        except SQLAlchemyError as error:
            if not self._failing:
                log.warning("unfinished messages cannot be looked for: %s", type(error).__name__)
            self._failing = True
            return
        self._failing = False
        if lost:
            self._report(lost)
            log.info("queueing %d unfinished messages again", lost)

    def _reclaim(self, held: int) -> int:
        """Put the messages that have no delivery any more back in line; return how many."""
        parameters = {
            "held": held,
            "lost_after": LOST_AFTER_S,
            "suspect_from": self._suspect_from,
            "most": MOST,
        }
        with self._system_engine.begin() as connection:
            return int(connection.execute(_RECLAIM, parameters).scalar_one())

    def _mend(self) -> None:
        """Put right what would keep messages from ever having their turn (ADR 18)."""
        with self._system_engine.begin() as connection:
            mended = connection.execute(_MEND, {"longest_lease": self._longest_lease_s}).scalar_one()
        if mended:
            self._report_stranded(mended)
            log.error("%d messages would have waited for ever, and are in line again", mended)
