"""Parked messages: processes die of them, and people decide what becomes of them.

The reply of a parked message stays as it is, as every reply does: a decision is noted beside it, and a retry
is a message of its own. PostgreSQL enforces that (trigger ``keep_reply``).
"""

from __future__ import annotations

from uuid import uuid4

from sqlalchemy import DateTime, Engine, Text, cast, func, insert, literal, null, or_, select, update
from sqlalchemy.orm import Session

from orchestrator.decisions import Decided, Decision, ParkedMessage
from orchestrator.messages import REPLY, reply_of
from orchestrator.recording import CONTENT, join_thread
from orchestrator.replies import FAILURES
from shared.db import get_session
from shared.reply import MessageStatus, Reason, Reply
from shared.rls import tenant_scope
from shared.tables import messages
from shared.tracing import trace_headers


def park(tenant_id: str, message_id: str, *, on: Engine | None = None) -> Reply | None:
    """Give up a message that nobody works on, in the scope of its tenant.

    Returns its reply; None when it was not there to be given up.
    """
    with get_session(on) as session:
        parked = session.execute(
            update(messages)
            .where(
                messages.c.tenant_id == tenant_id,
                messages.c.message_id == message_id,
                messages.c.status == MessageStatus.RECEIVED,
                or_(messages.c.owner.is_(None), messages.c.lease_expires_at < func.now()),
            )
            .values(
                status=MessageStatus.FAILED,
                finished_at=func.now(),
                deaths=messages.c.deaths + func.num_nonnulls(messages.c.owner),
                owner=None,
                lease_expires_at=None,
                reason=Reason.PARKED,
                reply=FAILURES[Reason.PARKED],
            )
            .returning(*REPLY)
        ).one_or_none()
    return None if parked is None else reply_of(parked)


def list_parked(tenant_id: str, *, on: Engine | None = None) -> list[ParkedMessage]:
    """List a tenant's parked messages that nothing is decided about, the oldest first."""
    with tenant_scope(tenant_id), get_session(on) as session:
        rows = session.execute(
            select(
                messages.c.message_id,
                messages.c.agent,
                messages.c.thread_id,
                messages.c.received_at,
                messages.c.finished_at.label("parked_at"),
                messages.c.deaths,
            )
            .where(
                messages.c.tenant_id == tenant_id,
                messages.c.reason == Reason.PARKED,
                messages.c.decision.is_(None),
            )
            .order_by(messages.c.seq)
        )
        return [ParkedMessage(**row._asdict()) for row in rows]


def decide(
    tenant_id: str, message_id: str, decision: Decision, *, on: Engine | None = None
) -> Decided | None:
    """Decide what becomes of a parked message. What was decided first stays.

    Returns what is decided about it, now or before; None when the tenant has no such parked message.
    """
    is_it = (
        messages.c.tenant_id == tenant_id,
        messages.c.message_id == message_id,
        messages.c.reason == Reason.PARKED,
    )
    decided = (messages.c.message_id, messages.c.decision, messages.c.decided_at, messages.c.retried_as)
    with tenant_scope(tenant_id), get_session(on) as session:
        thread_id = session.execute(select(messages.c.thread_id).where(*is_it)).scalar()
        if thread_id is None:
            return None
        join_thread(session, tenant_id, thread_id)  # of two who decide at once, one is second
        row = session.execute(select(*decided).where(*is_it).with_for_update()).one_or_none()
        if row is None:
            return None
        if row.decision is None:
            again = _send_again(session, tenant_id, message_id) if decision is Decision.RETRY else None
            row = session.execute(
                update(messages)
                .where(*is_it)
                .values(decision=decision, decided_at=func.now(), retried_as=again)
                .returning(*decided)
            ).one()
        return Decided(**row._asdict())


def _send_again(session: Session, tenant_id: str, message_id: str) -> str:
    """Record what a message says once more, under a new id, last in its thread and in line; return the id.

    It is copied as it is in PostgreSQL: what is no message any more ends as that.
    """
    again = uuid4().hex
    said = ("tenant_id", "sent_at", *CONTENT)
    copy = select(
        literal(again),
        messages.c.message_id,
        cast(null(), DateTime(timezone=True)),
        literal(trace_headers().get("traceparent"), Text),
        *(messages.c[name] for name in said),
    ).where(messages.c.tenant_id == tenant_id, messages.c.message_id == message_id)
    session.execute(
        insert(messages).from_select(["message_id", "retry_of", "queued_at", "traceparent", *said], copy)
    )
    return again
