"""A worker is alive when it consumes: the queue's length, and noticing that nothing is heard of it.

The backlog, which is in PostgreSQL, is counted beside it.

Alive but deaf: messages wait, threads are free, the broker answers, and nothing comes. No dependency that
is away counts against the worker: then there is nothing to hear.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from orchestrator.broker import QueueView
from orchestrator.periodic import Periodic

log = logging.getLogger(__name__)

SAMPLE_S = 5.0
"""Seconds between two looks at the queue."""

DEAF_S = 60.0
"""Seconds of waiting messages and idle threads after which the worker counts as deaf."""

_BACKLOG = text("select konstruct_backlog(), konstruct_longest_line(), konstruct_parked()")


class Hearing:
    """Decides whether the worker hears its queue. Pure, but for the clock."""

    def __init__(self, deaf_s: float = DEAF_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._deaf_s = deaf_s
        self._clock = clock
        self._silent_since: float | None = None
        self._taken = 0
        self._taken_before = 0
        self._answered = True

    def took(self) -> None:
        """Note a delivery."""
        self._taken += 1

    def sample(self, waiting: int | None, *, idle: bool) -> None:
        """Note that `waiting` messages wait (None: unknown) while the worker could take one, or not."""
        quiet = self._taken == self._taken_before
        self._taken_before = self._taken
        self._answered = waiting is not None
        if not (waiting and idle and quiet):
            self._silent_since = None
        elif self._silent_since is None:
            self._silent_since = self._clock()

    @property
    def deaf(self) -> bool:
        """Whether messages have waited for too long while the worker heard nothing."""
        since = self._silent_since
        return since is not None and self._clock() - since >= self._deaf_s

    @property
    def hears(self) -> bool:
        """Whether the broker answered when it was last asked, and the worker is not deaf."""
        return self._answered and not self.deaf


class Backlog:
    """Samples the lengths of queue and backlog, in a thread of its own."""

    def __init__(
        self,
        hearing: Hearing,
        idle: Callable[[], bool],
        system_engine: Engine,
        report: Callable[[int, int, int], None],
    ) -> None:
        """Keep what it needs.

        Args:
            hearing: Told how many messages wait in the queue.
            idle: Whether the worker could take one.
            system_engine: As the system role, to count across tenants.
            report: Told the length of the backlog, of the longest line of one tenant, and how many messages
                are parked and undecided.
        """
        self._hearing = hearing
        self._idle = idle
        self._system_engine = system_engine
        self._report = report
        self._queue = QueueView()
        self._periodic = Periodic("backlog", SAMPLE_S, self._sample)

    def start(self) -> None:
        """Begin."""
        self._periodic.start()

    def stop(self) -> None:
        """End."""
        self._periodic.stop()
        self._queue.close()

    def _sample(self) -> None:
        found = self._queue.count()
        self._hearing.sample(None if found is None else found.waiting, idle=self._idle())
        try:
            with self._system_engine.begin() as connection:
                self._report(*connection.execute(_BACKLOG).one())
        except SQLAlchemyError as error:
            log.debug("the backlog's length is not known: %s", type(error).__name__)
