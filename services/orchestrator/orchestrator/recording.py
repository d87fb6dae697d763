"""The messages table before a claim: recording what was sent, and reading it to queue it again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Engine, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from orchestrator.errors import MessageConflictError
from shared.db import get_session
from shared.models import KonstructMessage
from shared.reply import MessageStatus
from shared.tables import messages
from shared.tracing import incoming_headers, trace_headers

CONTENT = ("thread_id", "agent", "sender", "channel", "text")
"""What makes two submissions of one id the same message."""


def record_message(session: Session, message: KonstructMessage) -> MessageStatus:
    """Record `message` unless its id is recorded already, and return where it stands.

    Inserts of one thread are done one at a time: a sequence number is then never seen before a lower one
    of its thread, which is what lets a claim trust that nothing earlier is to come.

    Raises:
        MessageConflictError: another message was recorded under this id.
    """
    thread = f"{message.tenant_id}/{message.thread_id}"
    session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(thread, 0))))
    values = message.model_dump(include={"tenant_id", "message_id", "sent_at", *CONTENT})
    values["traceparent"] = trace_headers().get("traceparent")
    session.execute(insert(messages).values(values).on_conflict_do_nothing())
    row = session.execute(
        select(messages.c.status, *(messages.c[name] for name in CONTENT)).where(
            messages.c.tenant_id == message.tenant_id, messages.c.message_id == message.message_id
        )
    ).one()
    if any(getattr(row, name) != getattr(message, name) for name in CONTENT):
        raise MessageConflictError(
            f"message id {message.message_id} is taken by another message; send this one with a new id"
        )
    return MessageStatus(row.status)


def note_queue(message: KonstructMessage, *, queued: bool, on: Engine | None = None) -> None:
    """Note that a delivery of `message` was queued just now, or that none could be."""
    with get_session(on) as session:
        session.execute(
            update(messages)
            .where(
                messages.c.tenant_id == message.tenant_id,
                messages.c.message_id == message.message_id,
                messages.c.status == MessageStatus.RECEIVED,
            )
            .values(queued_at=func.now() if queued else None)
        )


def load(
    tenant_id: str, message_ids: Sequence[str], *, on: Engine | None = None
) -> list[tuple[KonstructMessage, dict[str, str]]]:
    """Read unfinished messages as they were recorded, in the order received, with their traces' headers."""
    with get_session(on) as session:
        rows = session.execute(
            select(messages.c.traceparent, *(messages.c[name] for name in KonstructMessage.model_fields))
            .where(
                messages.c.tenant_id == tenant_id,
                messages.c.message_id.in_(message_ids),
                messages.c.status == MessageStatus.RECEIVED,
            )
            .order_by(messages.c.seq)
        )
        return [_with_headers(row._asdict()) for row in rows]


def _with_headers(values: dict[str, Any]) -> tuple[KonstructMessage, dict[str, str]]:
    headers = incoming_headers({"traceparent": values.pop("traceparent")})
    return KonstructMessage.model_validate(values), headers
