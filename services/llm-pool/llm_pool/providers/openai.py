"""OpenAI's Chat Completions protocol, which many other servers speak too."""

from __future__ import annotations

from typing import Any

from llm_pool.providers.base import count
from llm_pool.providers.protocol import Protocol, RawReply, text_of


def _url(base: str) -> str:
    base = base.rstrip("/")
    return base if base.endswith("/chat/completions") else f"{base}/chat/completions"


def _read(answer: Any) -> RawReply:
    choice = answer["choices"][0]
    message = choice["message"]
    usage = answer.get("usage") or {}
    details = usage.get("prompt_tokens_details") or {}
    return RawReply(
        content=text_of(message.get("content")),
        model=answer.get("model"),
        prompt_tokens=count(usage.get("prompt_tokens")),
        completion_tokens=count(usage.get("completion_tokens")),
        cache_read=count(details.get("cached_tokens")),
        refused=choice.get("finish_reason") == "content_filter" or bool(message.get("refusal")),
    )


OPENAI = Protocol(
    key_variables=("OPENAI_API_KEY",),
    base_variables=("OPENAI_BASE_URL", "OPENAI_API_BASE"),
    default_base="https://api.openai.com/v1",
    needs_key=True,
    url=_url,
    read=_read,
)
"""``openai/``."""
