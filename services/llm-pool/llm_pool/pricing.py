"""What a reply costs: from LiteLLM's bundled price list, or by the deployment's own prices.

LiteLLM's own computation is not used: it asks Ollama servers over the network about models that the
list does not know, and reads a table that every Router in the process writes to.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from llm_pool.litellm_setup import PRICES

PROMPT = "input_cost_per_token"
"""US dollars for a token read."""

COMPLETION = "output_cost_per_token"
"""US dollars for a token written."""

CACHE_READ = "cache_read_input_token_cost"
"""US dollars for a token read from the provider's cache; as `PROMPT` when not given."""

CACHE_WRITE = "cache_creation_input_token_cost"
"""US dollars for a token written to the provider's cache; as `PROMPT` when not given."""

PRICE_PARAMS = (PROMPT, COMPLETION, CACHE_READ, CACHE_WRITE)
"""Prices that a deployment may set for itself, in ``litellm_params`` or ``model_info``."""

_TIER = re.compile(rf"^{PROMPT}_above_(\d+)k_tokens$")
"""The list's name for the price of prompts longer than so many thousand tokens."""


class PriceTag:
    """The price of one deployment's model."""

    def __init__(self, prices: Mapping[str, Any]) -> None:
        """Read an entry of the price list; an empty one is an unknown price."""
        self.known = PROMPT in prices and COMPLETION in prices
        """Whether there is a price."""
        self._tiers: list[tuple[int, dict[str, float]]] = []
        if not self.known:
            return
        base = {PROMPT: float(prices[PROMPT]), COMPLETION: float(prices[COMPLETION])}
        for name in (CACHE_READ, CACHE_WRITE):
            base[name] = float(prices[name] if prices.get(name) is not None else base[PROMPT])
        thresholds = sorted(int(found[1]) for key in prices if (found := _TIER.match(key)))
        self._tiers.append((0, base))
        for thousands in thresholds:
            suffix = f"_above_{thousands}k_tokens"
            tier = {
                name: float(base[name] if prices.get(name + suffix) is None else prices[name + suffix])
                for name in PRICE_PARAMS
            }
            self._tiers.append((thousands * 1000, tier))

    def cost(
        self, prompt_tokens: int, completion_tokens: int, *, cache_read: int = 0, cache_write: int = 0
    ) -> float | None:
        """US dollars for one call; none when the price is unknown.

        Args:
            prompt_tokens: All tokens read, those of the provider's cache included.
            completion_tokens: Tokens written.
            cache_read: Prompt tokens read from the provider's cache.
            cache_write: Prompt tokens written to it.
        """
        if not self.known:
            return None
        price = next(tier for above, tier in reversed(self._tiers) if prompt_tokens > above or above == 0)
        return (
            max(prompt_tokens - cache_read - cache_write, 0) * price[PROMPT]
            + cache_read * price[CACHE_READ]
            + cache_write * price[CACHE_WRITE]
            + completion_tokens * price[COMPLETION]
        )


def price_of(model: str, provider: str, own: Mapping[str, Any]) -> PriceTag:
    """Find a deployment's price.

    Args:
        model: Model id, as the provider knows it.
        provider: LiteLLM's name of the provider.
        own: Where the deployment may have set prices itself.
    """
    if PROMPT in own and COMPLETION in own:
        return PriceTag(own)
    entry: Mapping[str, Any] | None = PRICES.get(f"{provider}/{model}")
    if entry is None:
        entry = PRICES.get(model, {})
        if not str(entry.get("litellm_provider", "")).startswith(provider):
            entry = {}
    return PriceTag(entry)
