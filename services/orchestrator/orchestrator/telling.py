"""What is told of a message that has ended: its line in the log, and the attributes of its span."""

from __future__ import annotations

import logging
from typing import Any

from opentelemetry import trace

from orchestrator.agents.answers import RunResult
from orchestrator.messages import Claim
from shared.logs import fields
from shared.reply import MessageStatus, Reply
from shared.tracing import attributes, fail

log = logging.getLogger(__name__)


def tell(
    reply: Reply,
    result: RunResult | None = None,
    held: Claim | None = None,
    *,
    seconds: float | None = None,
    fault: str | None = None,
) -> None:
    """Tell how a message ended. Nothing of what was said is in it.

    Args:
        reply: How it ended.
        result: What came of asking the pool, if it was asked.
        held: The claim under which it was recorded, if it was.
        seconds: From the claim to now.
        fault: What is wrong with a message that has not the form of one.
    """
    envelope = result.envelope if result else None
    problem = result.problem if result else None
    tries = envelope.attempts if envelope else problem.attempts if problem else []
    facts: dict[str, Any] = {
        **reply.model_dump(mode="json", exclude={"text", "usage", "prompt_sha256", "transparency_clause"}),
        "attempts": len(tries),
        "prompt_tokens": envelope.usage.prompt_tokens if envelope else None,
        "completion_tokens": envelope.usage.completion_tokens if envelope else None,
        "cost_usd": envelope.cost_usd if envelope else None,
        "claims": held.attempt if held else None,
        "queue_seconds": _rounded(held.queue_seconds if held else None),
        "seconds": _rounded(seconds),
        "fault": fault,
    }
    answered = reply.status is MessageStatus.ANSWERED
    log.log(logging.INFO if answered else logging.WARNING, "message", extra=fields(**facts))
    span = trace.get_current_span()
    if span.is_recording():
        span.set_attributes(attributes(**facts, prompt_sha256=reply.prompt_sha256))
        if not answered:
            fail(span, reply.reason.value if reply.reason else reply.status.value)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)
