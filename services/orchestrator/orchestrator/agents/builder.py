"""Building the prompt of one message: system prompt, history within its budget, the sender's text."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.agents.catalog import ServedAgent
from shared.contract import ChatMessage, CompletionRequest, FallbackPolicy
from shared.models import KonstructMessage, OnFallback

BYTES_PER_TOKEN = 4
"""UTF-8 bytes counted as one token. An estimate: the models' tokenisers differ and none is at hand."""

TOKENS_PER_MESSAGE = 4
"""Tokens added for the role and the frame of a message."""


def build_request(
    agent: ServedAgent,
    history: Sequence[ChatMessage],
    message: KonstructMessage,
    *,
    history_token_budget: int,
    max_tokens: int,
    timeout_s: float,
) -> CompletionRequest:
    """Build what is asked of the llm-pool for `message`.

    The system prompt is the first message and the only one with that role: history and the sender's
    text can be nothing but turns of the conversation after it.
    """
    persona = agent.configuration.persona
    refuse = persona.on_fallback is OnFallback.REFUSE
    return CompletionRequest(
        model=persona.model.group,
        messages=[
            ChatMessage(role="system", content=agent.prompt),
            *within_budget(history, history_token_budget),
            ChatMessage(role="user", content=message.text),
        ],
        tenant_id=message.tenant_id,
        agent=message.agent,
        max_tokens=max_tokens,
        timeout_s=timeout_s,
        fallback=FallbackPolicy.REFUSE if refuse else FallbackPolicy.ALLOW,
    )


def within_budget(history: Sequence[ChatMessage], budget: int) -> list[ChatMessage]:
    """Keep the newest turns whose estimated tokens fit `budget`; never a reply without its question."""
    kept = len(history)
    spent = 0
    for position in range(len(history) - 1, -1, -1):
        spent += estimate_tokens(history[position].content)
        if spent > budget:
            break
        if history[position].role == "user":
            kept = position
    return list(history[kept:])


def estimate_tokens(text: str) -> int:
    """Estimate the tokens of a message with this text."""
    return -(-len(text.encode()) // BYTES_PER_TOKEN) + TOKENS_PER_MESSAGE
