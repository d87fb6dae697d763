"""Faults of the worker itself, counted per message: one that meets too many is recorded as failed.

They are counted apart from the deaths of workers, which take the innocent along.
"""

from __future__ import annotations

import logging
from typing import Any

from pydantic import ValidationError
from sqlalchemy import func, update
from sqlalchemy.exc import SQLAlchemyError

from orchestrator.messages import find_reply
from orchestrator.replies import failed
from orchestrator.runtime import Runtime
from shared.db import get_session
from shared.models import KonstructMessage
from shared.reply import MessageStatus, Reason, Reply
from shared.rls import tenant_scope
from shared.tables import messages

log = logging.getLogger(__name__)


def record_fault(payload: Any, worker: Runtime) -> Reply | None:
    """Count a fault that interrupted a delivery; return the reply when it was one too many.

    None: it is worth another try, or PostgreSQL, which counts, is away.
    """
    try:
        message = KonstructMessage.model_validate(payload)
    except ValidationError:
        return None
    mine = (messages.c.tenant_id == message.tenant_id, messages.c.message_id == message.message_id)
    unfinished = (*mine, messages.c.status == MessageStatus.RECEIVED, messages.c.owner.is_(None))
    given_up = failed(message, Reason.INTERNAL_ERROR)
    try:
        with tenant_scope(message.tenant_id):
            with get_session(worker.engine) as session:
                session.execute(update(messages).where(*unfinished).values(errors=messages.c.errors + 1))
                session.execute(
                    update(messages)
                    .where(*unfinished, messages.c.errors >= worker.settings.max_errors)
                    .values(
                        status=given_up.status,
                        reason=given_up.reason,
                        reply=given_up.text,
                        finished_at=func.now(),
                    )
                )
            return find_reply(message.tenant_id, message.message_id, on=worker.engine)
    except SQLAlchemyError as error:
        log.warning("a fault cannot be counted: %s", type(error).__name__)
        return None
