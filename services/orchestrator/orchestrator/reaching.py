"""What a worker must have reached once before it counts as ready: PostgreSQL and Redis.

Once, and not at every probe: nobody routes messages to a worker by its readiness, and one that has worked
works again by itself. But a rollout must not replace good workers by others that reach nothing.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable

import psycopg
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from orchestrator.agents.patience import backoff_s
from shared.db import refuse_unsafe_role
from shared.tls import certificate_fault

log = logging.getLogger(__name__)


class Reaching:
    """Waits for PostgreSQL, and remembers what was reached."""

    def __init__(self, engine: Engine, consumed: Callable[[], bool]) -> None:
        """Keep what it needs.

        Args:
            engine: As the service role.
            consumed: Tells whether Redis was ever connected to for its queue.
        """
        self._engine = engine
        self._consumed = consumed
        self._database = False

    @property
    def missing(self) -> str | None:
        """What was never reached so far; None: everything was, once."""
        if not self._database:
            return "PostgreSQL"
        return None if self._consumed() else "Redis"

    def wait_for_database(self) -> None:
        """Return when PostgreSQL has let the worker in.

        Raises:
            ConfigurationError: it does, as a role that row level security does not hold back.
        """
        for attempt in itertools.count():
            try:
                refuse_unsafe_role(self._engine)
                break
            except (SQLAlchemyError, psycopg.Error) as error:
                if certificate_fault(error) is not None:
                    raise  # no waiting mends that
                if attempt == 0:
                    log.warning("PostgreSQL is away: waiting for it (%s)", _cause(error))
                time.sleep(backoff_s(attempt))
        if attempt:
            log.info("PostgreSQL is there")
        self._database = True


def _cause(error: Exception) -> str:
    """Return the first line of what PostgreSQL or the way to it has said; a password is never in it."""
    said = str(getattr(error, "orig", None) or error)
    return said.splitlines()[0] if said else type(error).__name__
