"""Submitting messages: what the CLI uses now and the channel gateway later."""

from __future__ import annotations

from dataclasses import dataclass

from kombu.exceptions import OperationalError
from redis.exceptions import RedisError
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from orchestrator.errors import QueueUnavailableError, StoreUnavailableError
from orchestrator.main import TASK_NAME, app, hidden
from orchestrator.messages import record_message
from shared.db import get_session
from shared.models import KonstructMessage
from shared.reply import MessageStatus
from shared.rls import tenant_scope


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a submission."""

    message_id: str
    """Id under which the reply can be read."""

    status: MessageStatus
    """Where the message stands; final if it was submitted and finished before."""


def submit(message: KonstructMessage, *, on: Engine | None = None) -> Receipt:
    """Record `message`, then queue it.

    Idempotent: submitting the same message again records nothing new, and queues it again unless it is
    finished, which is the remedy for a :class:`QueueUnavailableError`.

    Raises:
        MessageConflictError: another message was recorded under this id.
        StoreUnavailableError: PostgreSQL cannot be reached; nothing was recorded.
        QueueUnavailableError: it is recorded and Redis cannot be reached.
    """
    try:
        with tenant_scope(message.tenant_id), get_session(on) as session:
            status = record_message(session, message)
    except SQLAlchemyError as error:
        raise StoreUnavailableError(
            f"the message was not recorded, PostgreSQL does not answer ({type(error).__name__}); "
            "submit it again later"
        ) from error
    if status is MessageStatus.RECEIVED:
        _queue(message)
    return Receipt(message.message_id, status)


def _queue(message: KonstructMessage) -> None:
    try:
        payload = message.model_dump(mode="json")
        app.send_task(TASK_NAME, args=(payload,), argsrepr=hidden(payload))
    except (OperationalError, RedisError, OSError) as error:
        raise QueueUnavailableError(
            f"message {message.message_id} is recorded but not queued, Redis does not answer "
            f"({type(error).__name__}); submit it again with the same id"
        ) from error
