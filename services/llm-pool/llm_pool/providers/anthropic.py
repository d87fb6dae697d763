"""Anthropic's Messages protocol."""

from __future__ import annotations

from typing import Any

from llm_pool.providers.base import count
from llm_pool.providers.protocol import Protocol, RawReply, text_of


def _url(base: str) -> str:
    base = base.rstrip("/")
    if base.endswith("/v1/messages"):
        return base
    return f"{base}/messages" if base.endswith("/v1") else f"{base}/v1/messages"


def _read(answer: Any) -> RawReply:
    usage = answer.get("usage") or {}
    read, written = (
        count(usage.get("cache_read_input_tokens")),
        count(usage.get("cache_creation_input_tokens")),
    )
    return RawReply(
        content="".join(text_of(block["text"]) for block in answer["content"] if block["type"] == "text"),
        model=answer.get("model"),
        # Anthropic counts cached tokens apart; everybody else includes them.
        prompt_tokens=count(usage.get("input_tokens")) + read + written,
        completion_tokens=count(usage.get("output_tokens")),
        cache_read=read,
        cache_write=written,
        refused=answer.get("stop_reason") == "refusal",
    )


ANTHROPIC = Protocol(
    key_variables=("ANTHROPIC_API_KEY",),
    base_variables=("ANTHROPIC_API_BASE", "ANTHROPIC_BASE_URL"),
    default_base="https://api.anthropic.com",
    needs_key=True,
    url=_url,
    read=_read,
)
"""``anthropic/``."""
