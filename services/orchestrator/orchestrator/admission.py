"""Whether a tenant's message is queued when it is submitted, waits its turn, or is refused.

PostgreSQL is the backlog. At most ``tenant_queued`` messages of a tenant wait in Redis, so that whoever
comes next waits for few; the others wait here, in line, for :mod:`orchestrator.dispatcher`.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.config import Settings
from shared.models import KonstructMessage

_LOOK = text(
    """
    select (select count(*) from (
               select from messages
                where tenant_id = :tenant_id and status = 'received' and queued_at is null
                limit :backlog) waiting) as in_line,
           (select count(*) from messages
             where tenant_id = :tenant_id and status = 'received' and queued_at is not null
               and owner is null) as queued,
           exists (select from messages
                    where tenant_id = :tenant_id and thread_id = :thread_id and status = 'received')
               as follows
    """
)
"""The first is counted no further than it has to be; the second has few to count."""


@dataclass(frozen=True, slots=True)
class Room:
    """What there is room for."""

    at_once: bool
    """The message may be queued now: none of its tenant is in line, and none of its thread is before it."""

    full: bool
    """As many messages of the tenant wait their turn as may."""


def look_for_room(session: Session, message: KonstructMessage, settings: Settings) -> Room:
    """Look for room for `message` in the queue and in the backlog of its tenant.

    Senders at the same instant do not see each other: together they may queue as many more as they are.
    """
    found = session.execute(
        _LOOK,
        {
            "tenant_id": message.tenant_id,
            "thread_id": message.thread_id,
            "backlog": settings.tenant_backlog,
        },
    ).one()
    at_once = not found.in_line and not found.follows and found.queued < settings.tenant_queued
    return Room(at_once=at_once, full=found.in_line >= settings.tenant_backlog)
