"""Submitting messages: what the CLI uses now and the channel gateway later."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import lru_cache

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from orchestrator.admission import look_for_room
from orchestrator.errors import BacklogFullError, StoreUnavailableError
from orchestrator.recording import find_recorded, put_in_line, record_message
from orchestrator.tracing import submitting
from shared.config import Settings, load_settings
from shared.db import get_session
from shared.models import KonstructMessage
from shared.reply import MessageStatus
from shared.rls import tenant_scope
from shared.tls import certificate_fault
from shared.tracing import trace_headers

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a submission."""

    message_id: str
    """Id under which the reply can be read."""

    status: MessageStatus
    """Where the message stands; final if it was submitted and finished before."""

    queued: bool
    """Whether it was queued now. One that is unfinished and was not is queued by a worker, or was before."""


def submit(
    message: KonstructMessage,
    *,
    on: Engine | None = None,
    settings: Settings | None = None,
    at_once: bool = True,
) -> Receipt:
    """Record `message`, and queue it if it is its turn already.

    Once it is recorded it is accepted: while Redis is away, or others of its tenant or its thread come
    first, it waits, and a worker queues it (:mod:`orchestrator.dispatcher`). Idempotent: submitting the same
    message again records nothing new and queues nothing.

    Args:
        message: The message.
        on: Service engine; the process's own by default.
        settings: The environment's by default.
        at_once: Whether to queue it from here if it is its turn. Otherwise a worker does, within a quarter
            of a second, and this process needs neither Celery nor a connection to Redis.

    Raises:
        MessageConflictError: another message was recorded under this id.
        BacklogFullError: too many messages of the tenant wait their turn; nothing was recorded.
        StoreUnavailableError: PostgreSQL cannot be reached; nothing was recorded.
    """
    with tenant_scope(message.tenant_id), submitting(message):
        try:
            status, mine_to_queue = _record(message, settings or _environment(), on, at_once=at_once)
        except SQLAlchemyError as error:
            raise StoreUnavailableError(
                "the message was not recorded, PostgreSQL does not answer "
                f"({certificate_fault(error) or type(error).__name__}); "
                "submit it again later"
            ) from error
        queued = mine_to_queue and _try_to_queue(message, on)
    return Receipt(message.message_id, status, queued)


@lru_cache(maxsize=1)
def _environment() -> Settings:
    return load_settings()


def _record(
    message: KonstructMessage, settings: Settings, on: Engine | None, *, at_once: bool
) -> tuple[MessageStatus, bool]:
    """Record a message; return where it stands, and whether it is to be queued now."""
    with get_session(on) as session:
        room = look_for_room(session, message, settings)
        if room.full:
            status = find_recorded(session, message)
            if status is None:
                raise BacklogFullError(
                    f"{settings.tenant_backlog} messages of tenant {message.tenant_id} wait to be answered, "
                    "and no more are taken; nothing was recorded: submit it again when some are answered"
                )
            return status, False
        at_once = at_once and room.at_once
        recorded = record_message(session, message, queued=at_once)
        return recorded.status, recorded.new and at_once


def _try_to_queue(message: KonstructMessage, on: Engine | None) -> bool:
    # Celery and Redis, which not every sender needs.
    from orchestrator.broker import AWAY  # noqa: PLC0415
    from orchestrator.queueing import queue  # noqa: PLC0415

    try:
        queue(message, trace_headers())
    except AWAY as failure:
        why = certificate_fault(failure) or type(failure).__name__
        log.warning("message %s waits for Redis (%s)", message.message_id, why)
    else:
        return True
    try:
        put_in_line(message, on=on)
    except SQLAlchemyError as failure:
        # It then looks queued, and is found by there being fewer deliveries than messages.
        log.warning("message %s is not noted as waiting (%s)", message.message_id, type(failure).__name__)
    return False
