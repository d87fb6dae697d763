"""Ollama's ``/api/chat`` protocol."""

from __future__ import annotations

import re
from typing import Any

from llm_pool.providers.base import count
from llm_pool.providers.protocol import Protocol, RawReply, text_of

_THOUGHTS = re.compile(r"^\s*<think>.*?</think>\s*", re.DOTALL)
"""Thoughts that older Ollama versions leave in the text of reasoning models such as qwen3."""


def _url(base: str) -> str:
    base = base.rstrip("/")
    return base if base.endswith("/api/chat") else f"{base}/api/chat"


def _read(answer: Any) -> RawReply:
    if answer.get("done") is False:
        raise ValueError("the answer is not finished")
    content = text_of(answer["message"].get("content"))
    if "<think>" in content:
        content = _THOUGHTS.sub("", content)
    return RawReply(
        content=content,
        model=answer.get("model"),
        prompt_tokens=count(answer.get("prompt_eval_count")),
        completion_tokens=count(answer.get("eval_count")),
    )


OLLAMA = Protocol(
    key_variables=("OLLAMA_API_KEY",),
    base_variables=("OLLAMA_API_BASE",),
    default_base="http://localhost:11434",
    needs_key=False,
    url=_url,
    read=_read,
)
"""``ollama_chat/``."""
