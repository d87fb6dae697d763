"""Payloads that are no KonstructMessage: told apart, recorded where they can be, never retried."""

from __future__ import annotations

import logging
from typing import Any

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError

from orchestrator.errors import PutBackError
from orchestrator.replies import FAILURES
from orchestrator.runtime import Runtime
from orchestrator.telling import tell
from shared.db import get_session, is_worth_a_retry
from shared.manifest import describe
from shared.models import KonstructMessage
from shared.reply import MessageStatus, Reason, Reply
from shared.rls import tenant_scope
from shared.tables import messages
from shared.tracing import kept_trace_id

log = logging.getLogger(__name__)

UNREADABLE = "invalid"
"""Stands in a recorded row for a field that could not be read."""


def record_invalid(payload: Any, error: ValidationError, worker: Runtime) -> Reply:
    """Record a malformed message as failed, under its own id if it has a valid tenant and id.

    The row holds the fields that are valid; the sender's text only if it is. Without a valid tenant and
    id there is nobody to record it for; it is logged and the reply returned.

    Raises:
        PutBackError: PostgreSQL is away.
    """
    fields = payload if isinstance(payload, dict) else {}
    tenant_id, message_id = _valid(fields, "tenant_id"), _valid(fields, "message_id")
    # The names of fields are the sender's, and PostgreSQL stores no NUL.
    fault = describe(error).replace("\x00", "\N{REPLACEMENT CHARACTER}")
    reply = Reply(
        tenant_id=tenant_id or UNREADABLE,
        message_id=message_id or UNREADABLE,
        thread_id=_valid(fields, "thread_id") or UNREADABLE,
        agent=_valid(fields, "agent") or UNREADABLE,
        text=f"{FAILURES[Reason.MESSAGE_INVALID]} {fault[:2000]}",
        status=MessageStatus.FAILED,
        reason=Reason.MESSAGE_INVALID,
    )
    tell(reply, fault=fault[:500])
    if tenant_id is None or message_id is None:
        worker.metrics.refuse(Reason.MESSAGE_INVALID)
        return reply
    row = {
        **reply.model_dump(include={"tenant_id", "message_id", "thread_id", "agent", "status", "reason"}),
        "sender": _valid(fields, "sender") or UNREADABLE,
        "channel": _valid(fields, "channel") or UNREADABLE,
        "text": _valid(fields, "text") or "",
        "sent_at": func.now(),
        "finished_at": func.now(),
        "reply": reply.text,
        "trace_id": kept_trace_id(),
    }
    try:
        with tenant_scope(tenant_id), get_session(worker.engine) as session:
            inserted = insert(messages).values(row).on_conflict_do_nothing().returning(messages.c.seq)
            recorded = session.execute(inserted).one_or_none() is not None
    except SQLAlchemyError as failure:
        log.warning("a refused message cannot be recorded: %s", type(failure).__name__)
        if is_worth_a_retry(failure):
            raise PutBackError("the database is away") from None
        worker.metrics.refuse(Reason.MESSAGE_INVALID)
        return reply
    if recorded:
        worker.metrics.finished(reply.status, reply.reason)
    return reply


def _valid(fields: dict[Any, Any], name: str) -> str | None:
    """Return a field of the payload if it has the form that a KonstructMessage asks for."""
    field = KonstructMessage.model_fields[name]
    try:
        return str(TypeAdapter(field.rebuild_annotation()).validate_python(fields.get(name)))
    except ValidationError:
        return None
