"""Submitting messages: what the CLI uses now and the channel gateway later."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from orchestrator.broker import AWAY
from orchestrator.errors import StoreUnavailableError
from orchestrator.main import TASK_NAME, app, hidden
from orchestrator.recording import note_queue, record_message
from orchestrator.signing import Signing
from orchestrator.tracing import submitting
from shared.config import load_settings
from shared.db import get_session
from shared.models import KonstructMessage
from shared.reply import MessageStatus
from shared.rls import tenant_scope
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
    """Whether it was queued now. One that is unfinished and was not is queued by a worker later."""


def submit(message: KonstructMessage, *, on: Engine | None = None) -> Receipt:
    """Record `message`, then queue it.

    Once it is recorded it is accepted: while Redis is away it waits, and a worker queues it when Redis is
    back (:mod:`orchestrator.sweeper`). Idempotent: submitting the same message again records nothing new,
    and queues it again unless it is finished.

    Raises:
        MessageConflictError: another message was recorded under this id.
        StoreUnavailableError: PostgreSQL cannot be reached; nothing was recorded.
    """
    with tenant_scope(message.tenant_id), submitting(message):
        try:
            with get_session(on) as session:
                status = record_message(session, message)
        except SQLAlchemyError as error:
            raise StoreUnavailableError(
                f"the message was not recorded, PostgreSQL does not answer ({type(error).__name__}); "
                "submit it again later"
            ) from error
        queued = status is MessageStatus.RECEIVED and _try_to_queue(message, on)
    return Receipt(message.message_id, status, queued)


def queue(message: KonstructMessage, headers: Mapping[str, str]) -> None:
    """Queue a recorded message, signed, with the `headers` that its trace goes on by.

    Raises:
        OperationalError, RedisError, OSError: Redis does not answer (:data:`orchestrator.broker.AWAY`).
    """
    payload = message.model_dump(mode="json")
    signed = Signing.of(load_settings()).headers(payload)
    app.send_task(TASK_NAME, args=(payload,), argsrepr=hidden(payload), headers={**headers, **signed})


def _try_to_queue(message: KonstructMessage, on: Engine | None) -> bool:
    try:
        queue(message, trace_headers())
    except AWAY as failure:
        log.warning("message %s waits for Redis (%s)", message.message_id, type(failure).__name__)
    else:
        return True
    try:
        note_queue(message, queued=False, on=on)
    except SQLAlchemyError as failure:
        # It then looks queued, and is found by there being fewer deliveries than messages.
        log.warning("message %s is not noted as waiting (%s)", message.message_id, type(failure).__name__)
    return False
