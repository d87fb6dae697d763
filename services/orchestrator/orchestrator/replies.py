"""Turning what came of a message into its Reply. Pure."""

from __future__ import annotations

from orchestrator.agents.answers import POLITE_FALLBACK, RunResult
from orchestrator.agents.catalog import ServedAgent
from shared.models import KonstructMessage, OnFallback
from shared.prompt import TRANSPARENCY_CLAUSE_VERSION
from shared.reply import MessageStatus, Reason, Reply

DISCLOSURE = (
    "(This reply was written by a substitute model, because this agent's usual one could not be reached.)"
)
"""Appended to a degraded reply of an agent with ``onFallback: disclose``; fixed, not left to a model."""

FAILURES = {
    Reason.AGENT_UNKNOWN: "There is no agent by that name here.",
    Reason.AGENT_SUSPENDED: "This agent is switched off at present.",
    Reason.MESSAGE_INVALID: "This message does not have the form that is needed.",
    Reason.MESSAGE_CONFLICT: "Another message was sent under the same id.",
    Reason.PARKED: "This message could not be worked on, and is kept for somebody to look at.",
    Reason.DROPPED: "This message could not be worked on.",
}
"""What the sender is told when a message cannot be answered as it stands; the rest are apologies."""


def apologise(reason: Reason) -> RunResult:
    """Make the result of not asking a model at all."""
    return RunResult(text=FAILURES.get(reason, POLITE_FALLBACK), envelope=None, reason=reason)


def failed(message: KonstructMessage, reason: Reason) -> Reply:
    """Make the reply to a message that has no row of its own."""
    return reply_from(message, None, apologise(reason))


def reply_from(message: KonstructMessage, agent: ServedAgent | None, result: RunResult) -> Reply:
    """Make the reply to `message` from what came of asking; `agent` is who was asked, if anyone."""
    common = {
        "message_id": message.message_id,
        "thread_id": message.thread_id,
        "tenant_id": message.tenant_id,
        "agent": message.agent,
    }
    if agent is None or result.reason in FAILURES:
        return Reply(**common, text=result.text, status=MessageStatus.FAILED, reason=result.reason)
    spoken = {
        **common,
        "revision": agent.revision,
        "requested_group": agent.configuration.persona.model.group,
        "prompt_sha256": agent.prompt_sha256,
        "transparency_clause": TRANSPARENCY_CLAUSE_VERSION,
    }
    envelope = result.envelope
    if envelope is None:
        problem = result.problem
        return Reply(
            **spoken,
            text=result.text,
            status=MessageStatus.APOLOGISED,
            reason=result.reason,
            fallback_reason=problem.fallback_reason if problem else None,
        )
    disclose = envelope.degraded and agent.configuration.persona.on_fallback is OnFallback.DISCLOSE
    return Reply(
        **spoken,
        text=f"{result.text}\n\n{DISCLOSURE}" if disclose else result.text,
        status=MessageStatus.ANSWERED,
        served_group=envelope.served_group,
        model=envelope.model,
        degraded=envelope.degraded,
        fallback_reason=envelope.fallback_reason,
        usage=envelope.usage,
    )
