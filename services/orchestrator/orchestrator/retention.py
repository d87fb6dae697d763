"""Deleting what has been kept for long enough.

PostgreSQL decides what that is (function ``konstruct_purge``): finished messages only, and nothing that was
used within the last hour. A copy of a delivery may be on its way for some time after its message is finished;
once the message were gone, that copy would be answered as a new one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta

from sqlalchemy import Engine, func, select, text
from sqlalchemy.exc import SQLAlchemyError

from orchestrator.periodic import Periodic
from orchestrator.purged import LEAST, Purged
from shared.db import get_session
from shared.reply import MessageStatus
from shared.rls import tenant_scope
from shared.tables import messages

log = logging.getLogger(__name__)

INTERVAL_S = 10.0
"""Seconds between two looks."""

BATCH = 1000
"""Most messages that one statement deletes: it holds its locks for milliseconds."""

BATCHES = 50
"""Most batches of one look; the next look goes on."""

_PURGE = text("select messages, revisions from konstruct_purge(:of_tenant, :older_than, :most)")


def purge(
    system_engine: Engine,
    *,
    tenant_id: str | None = None,
    older_than: timedelta = LEAST,
    batches: int | None = None,
) -> Purged:
    """Delete messages that finished longer ago than `older_than`, of one tenant or of all.

    Args:
        system_engine: As the system role.
        tenant_id: Whose; None: everybody's.
        older_than: Less than :data:`orchestrator.purged.LEAST` counts as that.
        batches: Most batches of :data:`BATCH` messages; None: until nothing is left to delete.
    """
    parameters = {"of_tenant": tenant_id, "older_than": older_than.total_seconds(), "most": BATCH}
    deleted, revisions, done = 0, 0, 0
    while batches is None or done < batches:
        with system_engine.begin() as connection:
            found = connection.execute(_PURGE, parameters).one()
        deleted, revisions, done = deleted + found.messages, revisions + found.revisions, done + 1
        if found.messages < BATCH:
            break
    return Purged(messages=deleted, revisions=revisions)


def count_left(tenant_id: str, *, on: Engine) -> tuple[int, int]:
    """Count a tenant's unfinished and finished messages."""
    unfinished = messages.c.status == MessageStatus.RECEIVED
    with tenant_scope(tenant_id), get_session(on) as session:
        row = session.execute(
            select(
                func.count().filter(unfinished).label("unfinished"),
                func.count().filter(~unfinished).label("finished"),
            ).where(messages.c.tenant_id == tenant_id)
        ).one()
    return row.unfinished, row.finished


class Retention:
    """Deletes old messages now and then, in a thread of its own; one worker at a time finds any."""

    def __init__(self, system_engine: Engine, keep: timedelta | None, report: Callable[[int], None]) -> None:
        """Keep messages for `keep` after they finished (None: for ever); `report` is told how many went."""
        self._system_engine = system_engine
        self._keep = keep
        self._report = report
        self._periodic = Periodic("retention", INTERVAL_S, self._look)

    def start(self) -> None:
        """Begin, if there is an end to keeping."""
        if self._keep is not None:
            self._periodic.start()

    def stop(self) -> None:
        """End."""
        self._periodic.stop()

    def _look(self) -> None:
        if self._keep is None:
            return
        try:
            purged = purge(self._system_engine, older_than=self._keep, batches=BATCHES)
        except SQLAlchemyError as error:
            log.warning("old messages cannot be deleted: %s", type(error).__name__)
            return
        if purged.messages or purged.revisions:
            self._report(purged.messages)
            log.info(
                "deleted %d messages and %d revisions, kept for long enough",
                purged.messages,
                purged.revisions,
            )
