"""Keeping this worker's claims alive: one statement a second for all of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from orchestrator.periodic import Periodic

log = logging.getLogger(__name__)

INTERVAL_S = 1.0
"""Seconds between two extensions."""

_EXTEND = text("select konstruct_extend_leases(:owner, :held, :seconds)")


class Heartbeat:
    """Extends the leases that `held` names, each second, as the system role, in a thread of its own.

    Only what a task of this worker is really working on: a claim that a task lost hold of runs out.

    A worker that dies, or cannot reach PostgreSQL, is silent; its claims are void when the lease has run
    out, and fencing keeps it from committing a reply then.
    """

    def __init__(self, engine: Engine, owner: str, lease_s: float, held: Callable[[], Sequence[int]]) -> None:
        self._engine = engine
        self._parameters = {"owner": owner, "seconds": lease_s}
        self._held = held
        self._failing = False
        self._periodic = Periodic("lease-heartbeat", min(INTERVAL_S, lease_s / 3), self._beat)

    def start(self) -> None:
        """Begin."""
        self._periodic.start()

    def stop(self) -> None:
        """End; claims still held run out by themselves."""
        self._periodic.stop()

    def _beat(self) -> None:
        held = self._held()
        if not held:
            return
        try:
            with self._engine.begin() as connection:
                connection.execute(_EXTEND, {**self._parameters, "held": held})
        except SQLAlchemyError as error:
            if not self._failing:
                log.warning("leases cannot be extended: %s", type(error).__name__)
            self._failing = True
        else:
            if self._failing:
                log.info("leases are extended again")
            self._failing = False
