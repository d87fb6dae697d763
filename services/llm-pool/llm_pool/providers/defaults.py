"""The groups that are served when no configuration file is given: the provider keys decide."""

from __future__ import annotations

from collections.abc import Mapping

from llm_pool.pool_config import DeploymentSpec, PoolConfig
from shared.config import Settings

QUALITY = "quality"
"""The group of the large models: Anthropic, then OpenAI."""

FAST = "fast"
"""The group of the local model: Ollama. Stands in for `QUALITY`."""


def default_config(settings: Settings, environ: Mapping[str, str]) -> PoolConfig:
    """Make the groups `QUALITY` and `FAST`.

    Args:
        settings: Models and API bases.
        environ: Holds ``ANTHROPIC_API_KEY``, ``OPENAI_API_KEY`` and ``OLLAMA_BASE_URL``; a provider
            without its variable is left out, and ``/health`` says what to set.
    """
    return PoolConfig(
        deployments=(
            _spec(
                QUALITY,
                f"anthropic/{settings.anthropic_model}",
                environ,
                key="ANTHROPIC_API_KEY",
                base=settings.anthropic_base_url,
                order=1,
            ),
            # Asked second, not in turn: an agent keeps one voice while its first provider is up.
            _spec(
                QUALITY,
                f"openai/{settings.openai_model}",
                environ,
                key="OPENAI_API_KEY",
                base=settings.openai_base_url,
                order=2,
            ),
            _spec(
                FAST,
                f"ollama_chat/{settings.ollama_model}",
                environ,
                base=environ.get("OLLAMA_BASE_URL") or None,
                base_variable="OLLAMA_BASE_URL",
                order=1,
            ),
        ),
        fallbacks={QUALITY: (FAST,)},
    )


def _spec(
    group: str,
    model: str,
    environ: Mapping[str, str],
    *,
    order: int,
    key: str | None = None,
    base: str | None = None,
    base_variable: str | None = None,
) -> DeploymentSpec:
    params: dict[str, object] = {"model": model, "order": order}
    missing = []
    if key is not None:
        if environ.get(key):
            params["api_key"] = environ[key]
        else:
            missing.append(key)
    if base is not None:
        params["api_base"] = base
    elif base_variable is not None:
        missing.append(base_variable)
    return DeploymentSpec(group=group, params=params, missing=tuple(missing))
