"""Parked messages: processes die of them, and people decide what becomes of them."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Engine, func, or_, select, text, update

from orchestrator.decisions import Decision, ParkedMessage
from orchestrator.messages import reply_of
from orchestrator.recording import join_thread
from orchestrator.replies import FAILURES
from shared.db import get_session
from shared.reply import MessageStatus, Reason, Reply
from shared.rls import tenant_scope
from shared.tables import messages

_DECIDED: Mapping[Decision, Mapping[str, object]] = {
    Decision.RETRY: {
        "status": MessageStatus.RECEIVED.value,
        "finished_at": None,
        "reason": None,
        "reply": None,
        "deaths": 0,
        "errors": 0,
        # It waits its turn as if it came now, also in its thread, which has gone on without it.
        "seq": text("default"),
        "queued_at": None,
        "due_at": func.now(),
    },
    Decision.DROP: {"reason": Reason.DROPPED.value, "reply": FAILURES[Reason.DROPPED]},
}
"""What is written for each decision."""


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
            .returning(*messages.c)
        ).one_or_none()
    return None if parked is None else reply_of(parked)


def list_parked(tenant_id: str, *, on: Engine | None = None) -> list[ParkedMessage]:
    """List a tenant's parked messages, the oldest first."""
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
            .where(messages.c.tenant_id == tenant_id, messages.c.reason == Reason.PARKED)
            .order_by(messages.c.seq)
        )
        return [ParkedMessage(**row._asdict()) for row in rows]


def decide(tenant_id: str, message_id: str, decision: Decision, *, on: Engine | None = None) -> bool:
    """Decide what becomes of a parked message. Returns whether it was parked."""
    is_it = (
        messages.c.tenant_id == tenant_id,
        messages.c.message_id == message_id,
        messages.c.reason == Reason.PARKED,
    )
    with tenant_scope(tenant_id), get_session(on) as session:
        thread_id = session.execute(select(messages.c.thread_id).where(*is_it)).scalar()
        if thread_id is None:
            return False
        join_thread(session, tenant_id, thread_id)
        decided = session.execute(
            update(messages).where(*is_it).values(_DECIDED[decision]).returning(messages.c.seq)
        )
        return decided.one_or_none() is not None
