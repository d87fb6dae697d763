"""What the steps of delivery say to PostgreSQL, and what attempts answer."""

from __future__ import annotations

from sqlalchemy import text

from shared.contract import CompletionResponse
from shared.reply import MessageStatus, Reason, Reply
from tests.fuzz.delivery_model import Held
from tests.support.pool import envelope

TENANTS = ("acme", "globex")
"""Whose messages have the same ids and threads: only the tenant tells them apart."""

MOST = 500
"""Most that one look takes."""

RECLAIM = text("select konstruct_reclaim(:held, :lost_after, :suspect_from, :most)")
DISPATCH = text("select tenant_id, message_id from konstruct_dispatch(:most, :most, :suspect_from, :most)")
SUSPECTS = text("select tenant_id, message_id, deaths from konstruct_suspects(:suspect_from, :most)")
MEND = text("select konstruct_mend(:longest_lease)")
STRANDED = "select message_id from konstruct_stranded(%(suspect_from)s, %(longest_lease)s)"
CROWD = """
    insert into messages (tenant_id, message_id, thread_id, agent, sender, channel, text, sent_at, queued_at)
    select 'acme', 'crowd-' || n, 'crowd', 'ada', 'sam', 'api', 'hi', now(), null
      from generate_series(1, %(count)s) n
"""
EXTEND = text("select konstruct_extend_leases(:owner, :held, :seconds)")
AGE = """
    update messages set
        received_at = received_at - %(by)s::interval, due_at = due_at - %(by)s::interval,
        queued_at = queued_at - %(by)s::interval,
        started_at = started_at - %(by)s::interval, finished_at = finished_at - %(by)s::interval,
        lease_expires_at = lease_expires_at - %(by)s::interval
"""
ROWS = """
    select tenant_id, message_id, status, reason, reply, owner, coalesce(lease_expires_at > now(), false),
           attempt, deaths, errors, text
      from messages where thread_id <> 'crowd' order by seq
"""


def reply_to(held: Held, status: MessageStatus, number: int) -> tuple[Reply, CompletionResponse | None]:
    """Make the reply of one attempt, and the pool's account of it."""
    message = held.message
    said = f"{status} {number} by {held.claim.owner}, attempt {held.claim.attempt}"
    common = {
        **message.model_dump(include={"message_id", "thread_id", "tenant_id", "agent"}),
        "text": said,
    }
    if status is MessageStatus.ANSWERED:
        account = CompletionResponse.model_validate(envelope(said))
        spoken = account.model_dump(include={"model", "requested_group", "served_group", "usage"})
        return Reply.model_validate({**common, **spoken, "status": status, "revision": "r1"}), account
    reason = Reason.PROVIDERS_FAILED if status is MessageStatus.APOLOGISED else Reason.AGENT_UNKNOWN
    return Reply.model_validate({**common, "status": status, "reason": reason}), None
