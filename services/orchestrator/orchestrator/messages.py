"""The messages table: claiming, history, recording the reply.

Every function is one short transaction of the current tenant (or joins the session it is given). None is
open while a model answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, Row, bindparam, func, select, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from orchestrator.recording import CONTENT, record_message
from shared.contract import ChatMessage, CompletionResponse, FallbackReason, Problem, Usage
from shared.db import get_session
from shared.models import KonstructMessage
from shared.reply import MessageStatus, Reason, Reply
from shared.rls import tenant_scope
from shared.tables import messages

HISTORY_TURNS = 50
"""Most earlier messages of a thread that are read for a prompt; the token budget cuts further."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to answer one message, until the lease runs out."""

    message_id: str
    """Id of the message."""

    seq: int
    """Number of the message, the same for every tenant: what leases are extended by."""

    owner: str
    """Worker that holds the claim."""

    attempt: int
    """Number of the claim on this message: the fencing token."""

    deaths: int
    """How often a claim before this one ended with its worker's silence."""

    queue_seconds: float
    """Seconds from the message's receipt to this claim."""

    history: tuple[ChatMessage, ...]
    """Earlier turns of the thread with this agent, oldest first."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """Workers died while the message was under way: it is the quarantine's, which needs no delivery."""


@dataclass(frozen=True, slots=True)
class Busy:
    """The message cannot be claimed now."""

    why: str
    """Who holds it up."""

    ahead: int
    """Unfinished messages before it in its thread."""


_CLAIM = text(
    """
    update messages m
       set owner = :owner, lease_expires_at = now() + make_interval(secs => :lease_s),
           attempt = m.attempt + 1, started_at = now(), queued_at = coalesce(m.queued_at, now()),
           deaths = m.deaths + (m.owner is not null)::int
     where m.tenant_id = :tenant_id and m.message_id = :message_id and m.status = 'received'
       and (m.thread_id, m.agent, m.sender, m.channel, m.text)
           = (:thread_id, :agent, :sender, :channel, :text)
       and (m.owner is null or m.lease_expires_at < now())
       and m.deaths + (m.owner is not null)::int < :suspect_from
       and not exists (
           select from messages e
            where e.tenant_id = m.tenant_id and e.thread_id = m.thread_id
              and e.seq < m.seq and e.status = 'received')
    returning m.attempt, m.deaths, m.seq,
              extract(epoch from now() - m.received_at)::float8 as queue_seconds,
              (select json_agg(json_build_array(h.text, h.reply, h.status) order by h.seq)
                 from (select e.seq, e.text, e.reply, e.status from messages e
                        where e.tenant_id = m.tenant_id and e.thread_id = m.thread_id
                          and e.agent = m.agent and e.seq < m.seq
                          and e.status in ('answered', 'apologised')
                        order by e.seq desc limit :turns) h) as history
    """
)
"""Takes a message that is unfinished, nobody's or a silent worker's, and first in its thread. It must be the
one that was recorded: what another delivery says under its id is not answered in its place. What a spare
delivery brings while it waits in line is in line no more.

The history comes along: everything a message needs from PostgreSQL before it is answered is one
statement. It is an alias `e` of one table throughout: earlier messages of the thread.
"""


def claim(
    message: KonstructMessage, owner: str, lease_s: float, suspect_from: int, *, on: Engine | None = None
) -> Claim | Busy | Suspect | Reply:
    """Claim `message` for `owner`; record it first if it was never recorded (a direct delivery).

    Returns the claim; or why it is not to be had now; or that `suspect_from` workers died of it, so that
    it is left to the quarantine; or the reply, when the message is finished.

    Raises:
        MessageConflictError: another message was recorded under this id.
    """
    with get_session(on) as session:
        claimed = _try_claim(session, message, owner, lease_s, suspect_from)
        # What was recorded before may be about to finish, which waits for this transaction.
        if claimed is None and record_message(session, message).new:
            claimed = _try_claim(session, message, owner, lease_s, suspect_from)
        if claimed is None:
            return _why_not(session, message, suspect_from)
        return Claim(
            message_id=message.message_id,
            seq=claimed.seq,
            owner=owner,
            attempt=claimed.attempt,
            deaths=claimed.deaths,
            queue_seconds=claimed.queue_seconds,
            history=_history(claimed.history or []),
        )


def _try_claim(
    session: Session, message: KonstructMessage, owner: str, lease_s: float, suspect_from: int
) -> Row[Any] | None:
    return session.execute(
        _CLAIM,
        {
            "owner": owner,
            "lease_s": lease_s,
            "suspect_from": suspect_from,
            **message.model_dump(include={"tenant_id", "message_id", *CONTENT}),
            "turns": HISTORY_TURNS,
        },
    ).one_or_none()


def _why_not(session: Session, message: KonstructMessage, suspect_from: int) -> Busy | Suspect | Reply:
    live = func.coalesce(messages.c.lease_expires_at > func.now(), False).label("live")
    row = session.execute(
        select(messages, live).where(
            messages.c.tenant_id == message.tenant_id, messages.c.message_id == message.message_id
        )
    ).one()
    if row.status != MessageStatus.RECEIVED:
        return reply_of(row)
    if not row.live and row.deaths + (row.owner is not None) >= suspect_from:
        return Suspect()
    ahead = session.execute(
        select(func.count()).where(
            messages.c.tenant_id == message.tenant_id,
            messages.c.thread_id == message.thread_id,
            messages.c.seq < row.seq,
            messages.c.status == MessageStatus.RECEIVED,
        )
    ).scalar_one()
    if ahead:
        return Busy("earlier messages of the thread come first", ahead)
    return Busy("another worker holds it", 0)


def _history(rows: list[tuple[str, str, str]]) -> tuple[ChatMessage, ...]:
    """Turn (text, reply, status) rows into turns. What was apologised for keeps the question only."""
    turns: list[ChatMessage] = []
    for said, reply, status in rows:
        turns.append(ChatMessage(role="user", content=said))
        if status == MessageStatus.ANSWERED:
            turns.append(ChatMessage(role="assistant", content=reply))
    return tuple(turns)


_STILL_HELD = """
     where tenant_id = :tenant_id and message_id = :message_id and status = 'received'
       and owner = :owner and attempt = :attempt
"""
"""The fence: true for the newest claim on an unfinished message, and for no other."""

_RECORD = text(
    f"""
    update messages
       set status = :status, finished_at = now(), owner = null, lease_expires_at = null,
           reply = :text, reason = :reason, revision = :revision,
           requested_group = :requested_group, served_group = :served_group, model = :model,
           degraded = :degraded, fallback_reason = :fallback_reason,
           prompt_tokens = :prompt_tokens, completion_tokens = :completion_tokens,
           cost_usd = :cost_usd, pool_latency_ms = :pool_latency_ms, pool_attempts = :pool_attempts,
           prompt_sha256 = :prompt_sha256, transparency_clause = :transparency_clause,
           trace_id = :trace_id
    {_STILL_HELD}
    returning seq
    """  # noqa: S608 - constants of this module
).bindparams(bindparam("pool_attempts", type_=JSONB(none_as_null=True)))

_RELEASE = text(f"update messages set owner = null, lease_expires_at = null {_STILL_HELD}")  # noqa: S608 - as above


def record_reply(
    reply: Reply,
    held: Claim,
    account: CompletionResponse | Problem | None,
    *,
    trace_id: str | None = None,
    on: Engine | None = None,
) -> bool:
    """Record how a message ended, and the pool's account of it, if `held` is still the newest claim.

    `trace_id` names the trace that was kept of it, if one was (32 hexadecimal digits). Returns False when
    the claim is not the newest: another worker has taken over, and its reply counts.
    """
    usage = reply.usage
    envelope = account if isinstance(account, CompletionResponse) else None
    values = {
        **reply.model_dump(exclude={"usage", "thread_id", "agent"}),
        "prompt_tokens": usage.prompt_tokens if usage else None,
        "completion_tokens": usage.completion_tokens if usage else None,
        "cost_usd": envelope.cost_usd if envelope else None,
        "pool_latency_ms": envelope.latency_ms if envelope else None,
        "pool_attempts": [a.model_dump(mode="json") for a in account.attempts] if account else None,
        "trace_id": trace_id,
        "owner": held.owner,
        "attempt": held.attempt,
    }
    with get_session(on) as session:
        return session.execute(_RECORD, values).one_or_none() is not None


def release(tenant_id: str, held: Claim, *, on: Engine | None = None) -> None:
    """Give a claim up, so that another worker can take the message at once."""
    with get_session(on) as session:
        session.execute(
            _RELEASE,
            {
                "tenant_id": tenant_id,
                "message_id": held.message_id,
                "owner": held.owner,
                "attempt": held.attempt,
            },
        )


REPLY = tuple(
    messages.c[name]
    for name in (
        *(Reply.model_fields.keys() - {"text", "usage"}),
        "reply",
        "prompt_tokens",
        "completion_tokens",
    )
)
"""What a reply is read from, and no more: there may be a row of which something else cannot be read."""


def find_reply(tenant_id: str, message_id: str, *, on: Engine | None = None) -> Reply | None:
    """Read the reply to a message of `tenant_id`; None while it is unfinished or unknown."""
    with tenant_scope(tenant_id), get_session(on) as session:
        row = session.execute(
            select(*REPLY).where(
                messages.c.tenant_id == tenant_id,
                messages.c.message_id == message_id,
                messages.c.status != MessageStatus.RECEIVED,
            )
        ).one_or_none()
    return None if row is None else reply_of(row)


def reply_of(row: Row[Any]) -> Reply:
    """Build the reply from a finished row of the table."""
    usage = None
    if row.prompt_tokens is not None:
        usage = Usage(prompt_tokens=row.prompt_tokens, completion_tokens=row.completion_tokens)
    return Reply(
        message_id=row.message_id,
        thread_id=row.thread_id,
        tenant_id=row.tenant_id,
        agent=row.agent,
        revision=row.revision,
        text=row.reply,
        status=MessageStatus(row.status),
        reason=Reason(row.reason) if row.reason else None,
        requested_group=row.requested_group,
        served_group=row.served_group,
        model=row.model,
        degraded=bool(row.degraded),
        fallback_reason=FallbackReason(row.fallback_reason) if row.fallback_reason else None,
        usage=usage,
        prompt_sha256=row.prompt_sha256,
        transparency_clause=row.transparency_clause,
    )
