"""Prices: the pool computes what LiteLLM computes, wherever LiteLLM knows a price."""

from __future__ import annotations

import pytest

from llm_pool.litellm_setup import litellm
from llm_pool.pricing import CACHE_READ, COMPLETION, PROMPT, price_of


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("claude-sonnet-4-20250514", "anthropic"),
        ("claude-opus-4-5", "anthropic"),
        ("gpt-4o", "openai"),
        ("gpt-4o-mini", "openai"),
        (["gemini", "gemini-2.5-pro"][1], "gemini"),
    ],
)
@pytest.mark.parametrize("cached", [0, 400])
@pytest.mark.parametrize("prompt_tokens", [1000, 150_000, 300_000])
def test_price_is_that_of_litellm(model: str, provider: str, prompt_tokens: int, cached: int) -> None:
    usage = litellm.Usage(
        prompt_tokens=prompt_tokens,
        completion_tokens=77,
        total_tokens=prompt_tokens + 77,
        prompt_tokens_details={"cached_tokens": cached},
        cache_read_input_tokens=cached,
    )
    theirs = sum(litellm.cost_per_token(model=model, custom_llm_provider=provider, usage_object=usage))
    ours = price_of(model, provider, {}).cost(prompt_tokens, 77, cache_read=cached)
    assert ours == pytest.approx(theirs)


@pytest.mark.parametrize(
    ("model", "provider"),
    [("qwen3:8b", "ollama_chat"), ("nobody-knows-this", "openai"), ("gpt-4o", "groq")],
)
def test_unknown_price_is_none(model: str, provider: str) -> None:
    assert price_of(model, provider, {}).cost(1000, 1000) is None


def test_own_prices_come_first() -> None:
    own = {PROMPT: 0.001, COMPLETION: 0.002, CACHE_READ: 0.0001}
    assert price_of("gpt-4o", "openai", own).cost(10, 5, cache_read=4) == pytest.approx(0.006 + 0.0004 + 0.01)
