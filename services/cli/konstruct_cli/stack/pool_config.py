"""What the llm-pool of a local stack is given: which providers, and the small model where none is ``fast``.

Pure. With a configuration file of the user's own, or with Ollama, the pool configures itself; otherwise the
stack writes a LiteLLM configuration with the small model as ``fast`` and the seed's providers as ``quality``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from konstruct_cli.stack.model_server import KEY_VARIABLE, MODEL, REPLY_TOKENS, TEMPERATURE
from shared.config import Settings
from shared.secret_files import WithFiles

PROVIDER_VARIABLES = ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "OLLAMA_BASE_URL")
"""Environment variables that make a provider usable, in the order they are asked."""


def wants_small_model(settings: Settings, environ: Mapping[str, str]) -> bool:
    """Whether nothing else is configured to serve ``fast``."""
    return settings.llm_pool_config is None and not WithFiles(environ).get("OLLAMA_BASE_URL")


def providers_set(environ: Mapping[str, str]) -> list[str]:
    """Return the variables of :data:`PROVIDER_VARIABLES` that are set, themselves or by a file."""
    known = WithFiles(environ)
    return [name for name in PROVIDER_VARIABLES if known.get(name)]


def pool_config(settings: Settings, small_model_url: str) -> dict[str, Any]:
    """Build the LiteLLM configuration of a pool whose ``fast`` is the small model at `small_model_url`.

    Secrets are named, not written: LiteLLM reads ``os.environ/NAME`` from the pool's environment. A
    provider without its key stays in the list, so that the pool can say what to set.
    """
    anthropic = _deployment(f"anthropic/{settings.anthropic_model}", "ANTHROPIC_API_KEY", order=1)
    openai = _deployment(f"openai/{settings.openai_model}", "OPENAI_API_KEY", order=2)
    for parameters, base in ((anthropic, settings.anthropic_base_url), (openai, settings.openai_base_url)):
        if base is not None:
            parameters["api_base"] = base
    small = _deployment(f"openai/{MODEL}", KEY_VARIABLE, order=1)
    small["api_base"] = small_model_url
    # In the body as it is sent, over what callers ask of a large model.
    small["extra_body"] = {"max_tokens": REPLY_TOKENS, "temperature": TEMPERATURE}
    return {
        "model_list": [
            {"model_name": "quality", "litellm_params": anthropic},
            {"model_name": "quality", "litellm_params": openai},
            {"model_name": "fast", "litellm_params": small},
        ],
        "router_settings": {"fallbacks": [{"quality": ["fast"]}]},
    }


def _deployment(model: str, key_variable: str, *, order: int) -> dict[str, Any]:
    return {"model": model, "api_key": f"os.environ/{key_variable}", "order": order}
