"""Submitting messages: what the CLI uses now and the channel gateway later."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from orchestrator.admission import look_for_room
from orchestrator.broker import AWAY
from orchestrator.errors import BacklogFullError, StoreUnavailableError
from orchestrator.main import TASK_NAME, app, hidden
from orchestrator.recording import find_recorded, put_in_line, record_message
from orchestrator.signing import Signing
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
    message: KonstructMessage, *, on: Engine | None = None, settings: Settings | None = None
) -> Receipt:
    """Record `message`, and queue it if it is its turn already.

    Once it is recorded it is accepted: while Redis is away, or others of its tenant or its thread come
    first, it waits, and a worker queues it (:mod:`orchestrator.dispatcher`). Idempotent: submitting the same
    message again records nothing new and queues nothing. `settings` are the environment's by default.

    Raises:
        MessageConflictError: another message was recorded under this id.
        BacklogFullError: too many messages of the tenant wait their turn; nothing was recorded.
        StoreUnavailableError: PostgreSQL cannot be reached; nothing was recorded.
    """
    with tenant_scope(message.tenant_id), submitting(message):
        try:
            status, mine_to_queue = _record(message, settings or _environment(), on)
        except SQLAlchemyError as error:
            raise StoreUnavailableError(
                "the message was not recorded, PostgreSQL does not answer "
                f"({certificate_fault(error) or type(error).__name__}); "
                "submit it again later"
            ) from error
        queued = mine_to_queue and _try_to_queue(message, on)
    return Receipt(message.message_id, status, queued)


def queue(message: KonstructMessage, headers: Mapping[str, str]) -> None:
    """Queue a recorded message, signed, with the `headers` that its trace goes on by.

    Raises:
        OperationalError, RedisError, OSError: Redis does not answer (:data:`orchestrator.broker.AWAY`).
    """
    payload = message.model_dump(mode="json")
    signed = Signing.of(load_settings()).headers(payload)
    app.send_task(
        TASK_NAME,
        args=(payload,),
        argsrepr=hidden(payload),
        headers={**headers, **signed},
        # The reply is read from PostgreSQL. A result would be subscribed to here, for ever.
        ignore_result=True,
    )


@lru_cache(maxsize=1)
def _environment() -> Settings:
    return load_settings()


def _record(message: KonstructMessage, settings: Settings, on: Engine | None) -> tuple[MessageStatus, bool]:
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
        recorded = record_message(session, message, queued=room.at_once)
        return recorded.status, recorded.new and room.at_once


def _try_to_queue(message: KonstructMessage, on: Engine | None) -> bool:
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
