"""What the llm-pool of a local stack is given: which providers, and the small model where none is ``fast``.

Pure. With a configuration file of the user's own, or with Ollama, the pool configures itself; otherwise the
stack writes a LiteLLM configuration with the small model as ``fast`` and the seed's providers as ``quality``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from konstruct_cli.stack.model_server import KEY_VARIABLE, MODEL
from shared.config import Settings

PROVIDER_VARIABLES = ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "OLLAMA_BASE_URL")
"""Environment variables that make a provider usable, in the order they are asked."""


def wants_small_model(settings: Settings, environ: Mapping[str, str]) -> bool:
    """Whether nothing else is configured to serve ``fast``."""
    return settings.llm_pool_config is None and not environ.get("OLLAMA_BASE_URL")


def providers_set(environ: Mapping[str, str]) -> list[str]:
    """Return the variables of :data:`PROVIDER_VARIABLES` that are set."""
    return [name for name in PROVIDER_VARIABLES if environ.get(name)]


def pool_config(settings: Settings, small_model_url: str) -> dict[str, Any]:
    """Build the LiteLLM configuration of a pool whose ``fast`` is the small model at `small_model_url`.

    Secrets are named, not written: LiteLLM reads ``os.environ/NAME`` from the pool's environment. A
    provider without its key stays in the list, so that the pool can say what to set.
    """
    quality = [
        _deployment(
            f"anthropic/{settings.anthropic_model}", "ANTHROPIC_API_KEY", base=settings.anthropic_base_url
        ),
        _deployment(f"openai/{settings.openai_model}", "OPENAI_API_KEY", base=settings.openai_base_url),
    ]
    small = _deployment(f"openai/{MODEL}", KEY_VARIABLE, base=small_model_url)
    # The model's own server knows how long it may speak and how; callers ask for what a large one can do.
    small["additional_drop_params"] = ["max_tokens", "temperature"]
    return {
        "model_list": [
            *({"model_name": "quality", "litellm_params": parameters} for parameters in quality),
            {"model_name": "fast", "litellm_params": small},
        ],
        "router_settings": {"fallbacks": [{"quality": ["fast"]}]},
    }


def _deployment(model: str, key_variable: str, *, base: str | None) -> dict[str, Any]:
    parameters: dict[str, Any] = {"model": model, "api_key": f"os.environ/{key_variable}"}
    return parameters if base is None else {**parameters, "api_base": base}
