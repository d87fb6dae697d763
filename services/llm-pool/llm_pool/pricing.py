"""What a reply costs, from LiteLLM's bundled price list or the deployment's own prices."""

from __future__ import annotations

from typing import Any

from llm_pool.litellm_setup import litellm

FLAT_UP_TO = 100_000
"""Prompt tokens up to which one price per token holds; dearer tiers of the list begin at 128,000."""


class PriceTag:
    """The price of one deployment's model."""

    def __init__(self, model: str, provider: str) -> None:
        """Look `model` of `provider` up in LiteLLM's price list.

        Args:
            model: A model name, or the id under which LiteLLM's Router registered own prices.
            provider: LiteLLM's name of the provider.
        """
        self._model = model
        self._provider = provider
        try:
            info: dict[str, Any] = dict(litellm.get_model_info(model=model, custom_llm_provider=provider))
        except Exception:  # noqa: BLE001 (LiteLLM raises a bare Exception for an unknown model)
            info = {}
        entry: dict[str, Any] = litellm.model_cost.get(info.get("key", ""), {})
        self._known = "input_cost_per_token" in entry and "output_cost_per_token" in entry
        self._flat = (0.0, 0.0)
        if self._known:
            self._flat = (float(entry["input_cost_per_token"]), float(entry["output_cost_per_token"]))

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
        if not self._known:
            return None
        if prompt_tokens <= FLAT_UP_TO and not cache_read and not cache_write:
            return prompt_tokens * self._flat[0] + completion_tokens * self._flat[1]
        usage = litellm.Usage(
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            total_tokens=prompt_tokens + completion_tokens,
            prompt_tokens_details={"cached_tokens": cache_read, "cache_creation_tokens": cache_write},
            cache_read_input_tokens=cache_read,
            cache_creation_input_tokens=cache_write,
        )
        try:
            prompt, completion = litellm.cost_per_token(
                model=self._model, custom_llm_provider=self._provider, usage_object=usage
            )
        except Exception:  # noqa: BLE001 (a price that LiteLLM cannot compute is an unknown price)
            return None
        return float(prompt + completion)
