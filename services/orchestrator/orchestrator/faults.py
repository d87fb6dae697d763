"""Faults of the worker itself, counted per message: one that meets too many is recorded as failed.

They are counted apart from the deaths of workers, which take the innocent along.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from sqlalchemy import Engine, func, update
from sqlalchemy.exc import SQLAlchemyError

from orchestrator.messages import REPLY, find_reply, reply_of
from orchestrator.metrics import WorkerMetrics
from orchestrator.replies import apologise
from orchestrator.telling import tell
from shared.db import get_session
from shared.models import KonstructMessage
from shared.reply import MessageStatus, Reason, Reply
from shared.rls import tenant_scope
from shared.tables import messages

if TYPE_CHECKING:
    from orchestrator.runtime import Runtime

log = logging.getLogger(__name__)


class Faults:
    """Counts faults, and ends the messages that met too many. Thread-safe."""

    def __init__(self, engine: Engine, max_errors: int, metrics: WorkerMetrics) -> None:
        """`max_errors` is the number of faults that ends a message; `metrics` count it then."""
        self._engine = engine
        self._max_errors = max_errors
        self._metrics = metrics

    def count(self, tenant_id: str, message_id: str, reason: Reason = Reason.INTERNAL_ERROR) -> Reply | None:
        """Count a fault on an unfinished message that nobody holds; `reason` is why it fails if it fails.

        Returns the reply when this fault was one too many. None: the message is worth another try, or was
        not there to be counted against, or PostgreSQL, which counts, is away.
        """
        unfinished = (
            messages.c.tenant_id == tenant_id,
            messages.c.message_id == message_id,
            messages.c.status == MessageStatus.RECEIVED,
            messages.c.owner.is_(None),
        )
        try:
            with tenant_scope(tenant_id), get_session(self._engine) as session:
                session.execute(update(messages).where(*unfinished).values(errors=messages.c.errors + 1))
                ended = session.execute(
                    update(messages)
                    .where(*unfinished, messages.c.errors >= self._max_errors)
                    .values(
                        status=MessageStatus.FAILED,
                        reason=reason,
                        reply=apologise(reason).text,
                        finished_at=func.now(),
                    )
                    .returning(*REPLY)
                ).one_or_none()
        except SQLAlchemyError as error:
            log.warning("a fault cannot be counted: %s", type(error).__name__)
            return None
        if ended is None:
            return None
        reply = reply_of(ended)
        log.error("message %s is given up: it met %d faults", message_id, self._max_errors)
        tell(reply)
        self._metrics.finished(reply.status, reply.reason)
        return reply


def record_fault(payload: Any, worker: Runtime) -> Reply | None:
    """Count a fault that interrupted a delivery; return the message's reply when it is finished.

    None: it is worth another try, or PostgreSQL, which counts, is away.
    """
    try:
        message = KonstructMessage.model_validate(payload)
    except ValidationError:
        return None
    ended = worker.faults.count(message.tenant_id, message.message_id)
    if ended is not None:
        return ended
    try:
        return find_reply(message.tenant_id, message.message_id, on=worker.engine)
    except SQLAlchemyError:
        return None
