"""Reading the evidence of one message, as the tenant it belongs to."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine, Row, func, select
from sqlalchemy.orm import Session

from orchestrator.evidence import Documents, Evidence, Times, Waiting, WaitsFor, judge
from orchestrator.messages import reply_of
from shared.contract import Attempt
from shared.db import get_session
from shared.persona import revision_of
from shared.reply import MessageStatus
from shared.rls import tenant_scope
from shared.tables import agent_revisions, messages

_ENVELOPE = {
    "requested_group",
    "served_group",
    "model",
    "fallback_reason",
    "usage",
    "revision",
    "prompt_sha256",
    "transparency_clause",
}
"""What the evidence says as the reply does."""


def recall(
    tenant_id: str, message_id: str, *, texts: bool = False, on: Engine | None = None
) -> Evidence | None:
    """Read what is recorded of a message of `tenant_id`, with what was said in it only if `texts`.

    One transaction of that tenant: row level security hides the messages of every other, and None is the
    same for those as for an id that was never used.
    """
    with tenant_scope(tenant_id), get_session(on) as session:
        row = session.execute(
            select(messages, (messages.c.lease_expires_at > func.now()).label("held")).where(
                messages.c.tenant_id == tenant_id, messages.c.message_id == message_id
            )
        ).one_or_none()
        if row is None:
            return None
        finished = row.status != MessageStatus.RECEIVED
        waiting = None if finished else _waiting(session, row)
        documents = _documents(session, row)
    # While it is unfinished none of the reply is there; the status says so.
    envelope = reply_of(row).model_dump(include=_ENVELOPE) if finished else dict.fromkeys(_ENVELOPE)
    return Evidence(
        **envelope,
        message_id=row.message_id,
        tenant_id=row.tenant_id,
        agent=row.agent,
        channel=row.channel,
        sender=row.sender,
        thread_id=row.thread_id,
        status=row.status,
        reason=row.reason,
        decision=row.decision,
        decided_at=_utc(row.decided_at),
        retried_as=row.retried_as,
        retry_of=row.retry_of,
        times=_times(row),
        claims=row.attempt,
        deaths=row.deaths,
        waiting=waiting,
        degraded=bool(row.degraded),
        attempts=tuple(Attempt.model_validate(each) for each in row.pool_attempts or ()),
        cost_usd=None if row.cost_usd is None else float(row.cost_usd),
        pool_latency_ms=row.pool_latency_ms,
        trace_id=row.trace_id,
        documents=documents,
        proof=judge(row.revision, row.prompt_sha256, row.transparency_clause, documents),
        text=row.text if texts else None,
        reply=row.reply if texts else None,
    )


def _waiting(session: Session, row: Row[Any]) -> Waiting:
    first = session.execute(
        select(messages.c.message_id, func.count().over().label("ahead"))
        .where(
            messages.c.tenant_id == row.tenant_id,
            messages.c.thread_id == row.thread_id,
            messages.c.seq < row.seq,
            messages.c.status == MessageStatus.RECEIVED,
        )
        .order_by(messages.c.seq)
        .limit(1)
    ).one_or_none()
    if row.held:
        waits_for = WaitsFor.MODEL
    elif first is not None:
        waits_for = WaitsFor.EARLIER_MESSAGES
    elif row.owner is not None:
        waits_for = WaitsFor.SILENT_WORKER
    else:
        waits_for = WaitsFor.QUEUE if row.queued_at is None else WaitsFor.WORKER
    return Waiting(
        waits_for=waits_for,
        ahead=first.ahead if first else 0,
        first_ahead=first.message_id if first else None,
        owner=row.owner,
        lease_expires_at=_utc(row.lease_expires_at),
    )


def _documents(session: Session, row: Row[Any]) -> Documents | None:
    """Read the documents that were kept for the reply, whatever became of their agent since."""
    kept = session.execute(
        select(agent_revisions).where(
            agent_revisions.c.tenant_id == row.tenant_id,
            agent_revisions.c.agent == row.agent,
            agent_revisions.c.revision == row.revision,
            agent_revisions.c.transparency_clause == row.transparency_clause,
        )
    ).one_or_none()
    if kept is None:
        return None
    return Documents(
        identity_json=kept.identity_json,
        persona_json=kept.persona_json,
        revision=revision_of(kept.identity_json, kept.persona_json),
        prompt_sha256=kept.prompt_sha256,
        first_used_at=kept.first_used_at.astimezone(UTC),
    )


def _times(row: Row[Any]) -> Times:
    return Times(
        sent_at=row.sent_at.astimezone(UTC),
        received_at=row.received_at.astimezone(UTC),
        queued_at=_utc(row.queued_at),
        started_at=_utc(row.started_at),
        finished_at=_utc(row.finished_at),
        queue_s=_seconds(row.received_at, row.started_at),
        answer_s=_seconds(row.started_at, row.finished_at),
    )


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.astimezone(UTC)


def _seconds(first: datetime | None, last: datetime | None) -> float | None:
    return None if first is None or last is None else (last - first).total_seconds()
