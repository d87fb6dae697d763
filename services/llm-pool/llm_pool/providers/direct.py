"""Calls over the pool's own connections, for the protocols it speaks itself.

LiteLLM translates the request (roles, parameter names, model quirks); the sending and the reading
are done here. LiteLLM's own sending costs milliseconds of logging per call, sends a second time
after a broken connection, and estimates tokens that the provider has counted (docs/adr/0004).
"""

from __future__ import annotations

import json
import logging
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from llm_pool.failures import AttemptError, reason_of, retry_after_of
from llm_pool.litellm_setup import litellm
from llm_pool.pricing import PriceTag
from llm_pool.providers.anthropic import ANTHROPIC
from llm_pool.providers.base import Prompt, Reply, make_reply
from llm_pool.providers.ollama import OLLAMA
from llm_pool.providers.openai import OPENAI
from llm_pool.providers.protocol import RawReply
from shared.contract import FallbackReason
from shared.logs import fields

_log = logging.getLogger(__name__)

PROTOCOLS = {"anthropic": ANTHROPIC, "openai": OPENAI, "ollama_chat": OLLAMA}
"""Protocols by LiteLLM's provider name."""

MAX_ANSWER_BYTES = 16 * 1024 * 1024
"""Largest answer that is read; a larger one is no chat reply."""

MAX_ERROR_BYTES = 64 * 1024
"""How much of an error answer is read to tell its kind."""

_CALL_PARAMS = frozenset(
    {
        "temperature", "top_p", "n", "stop", "max_tokens", "max_completion_tokens", "presence_penalty",
        "frequency_penalty", "logit_bias", "user", "seed", "reasoning_effort", "verbosity", "thinking",
        "parallel_tool_calls", "safety_identifier", "top_k", "num_ctx", "keep_alive", "think", "extra_body",
        "repeat_penalty", "mirostat", "num_gpu", "num_thread", "min_p", "service_tier",
    }
)  # fmt: skip
"""LiteLLM parameters that only shape the request body."""

_OWN_PARAMS = frozenset(
    {"model", "api_key", "api_base", "base_url", "organization", "extra_headers", "headers"}
)
"""LiteLLM parameters that say where and as whom to ask."""

_CACHED_PARAMETER_SETS = 64
"""Translated (max_tokens, temperature) pairs kept for each deployment."""


def speaks(provider: str, params: Mapping[str, Any]) -> bool:
    """Whether a deployment with these LiteLLM parameters can be called from here."""
    return provider in PROTOCOLS and params.keys() <= _CALL_PARAMS | _OWN_PARAMS


class DirectCaller:
    """Asks one deployment over a session shared by all of them."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        model: str,
        provider: str,
        params: Mapping[str, Any],
        price: PriceTag,
        environ: Mapping[str, str],
    ) -> None:
        """Precompute all that does not depend on the prompt.

        Args:
            session: Connections; closed by its owner.
            model: Model id, as the provider knows it.
            provider: Key of `PROTOCOLS`.
            params: LiteLLM parameters for which `speaks` is true, secrets resolved.
            price: The model's price.
            environ: Where keys and bases are looked for that `params` does not give.
        """
        self._session = session
        self._model = model
        self._provider = provider
        self._price = price
        self._protocol = PROTOCOLS[provider]
        self._extra = {name: value for name, value in params.items() if name in _CALL_PARAMS}
        config = litellm.utils.ProviderConfigManager.get_provider_chat_config(
            model=model, provider=litellm.LlmProviders(provider)
        )
        if config is None:
            raise ValueError(f"LiteLLM knows no chat translation for {provider}/{model}")
        self._config = config
        key = params.get("api_key") or _first(environ, self._protocol.key_variables)
        base = (
            params.get("api_base") or params.get("base_url") or _first(environ, self._protocol.base_variables)
        )
        self._url = self._protocol.url(base or self._protocol.default_base)
        self._proxy = _proxy_for(self._url)
        self._headers = self._make_headers(key, params)
        self._translated: dict[tuple[int | None, float | None], dict[str, Any]] = {}

    def _make_headers(self, key: str | None, params: Mapping[str, Any]) -> dict[str, str]:
        headers: dict[str, str] = {**(params.get("headers") or {}), **(params.get("extra_headers") or {})}
        if self._provider == "openai" and params.get("organization"):
            headers["OpenAI-Organization"] = params["organization"]
        if key or self._provider == "anthropic":
            headers = self._config.validate_environment(
                headers=headers,
                model=self._model,
                messages=[],
                optional_params=dict(self._extra),
                litellm_params={},
                api_key=key or "none",
            )
        headers = {name: value for name, value in headers.items() if name.lower() != "content-type"}
        return {**headers, "Content-Type": "application/json"}

    async def call(self, prompt: Prompt, timeout_s: float) -> Reply:  # noqa: ARG002 (bounded by the caller)
        """Ask once; see `llm_pool.providers.base.Caller`."""
        try:
            body = self._body(prompt)
        except Exception as error:  # noqa: BLE001 - LiteLLM refuses a prompt by whatever its translation meets
            _log.warning("prompt refused by LiteLLM", extra=fields(error=type(error).__name__))
            raise AttemptError(FallbackReason.BAD_REQUEST) from None
        try:
            async with self._session.post(
                self._url, data=body, headers=self._headers, proxy=self._proxy, allow_redirects=False
            ) as response:
                if response.status != 200:
                    text = await _read_body(response, MAX_ERROR_BYTES)
                    raise AttemptError(
                        reason_of(response.status, text.decode(errors="replace")),
                        retry_after=retry_after_of(response.headers),
                        status=response.status,
                    )
                answer = await _read_body(response, MAX_ANSWER_BYTES)
        except (aiohttp.ClientError, OSError, ValueError):
            # No connection, a cut one, half a body, or bytes that are no HTTP.
            raise AttemptError(FallbackReason.UNAVAILABLE) from None
        return self._reply(self._understand(answer))

    def _body(self, prompt: Prompt) -> bytes:
        chosen = (prompt.max_tokens, prompt.temperature)
        optional = self._translated.get(chosen)
        if optional is None:
            optional = self._translate(*chosen)
            if len(self._translated) < _CACHED_PARAMETER_SETS:
                self._translated[chosen] = optional
        data: dict[str, Any] = self._config.transform_request(
            model=self._model,
            messages=prompt.as_dicts(),
            optional_params={name: value for name, value in optional.items() if name != "extra_body"},
            litellm_params={},
            headers={},
        )
        data.update(optional.get("extra_body") or {})
        return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()

    def _translate(self, max_tokens: int | None, temperature: float | None) -> dict[str, Any]:
        given = dict(self._extra)
        if max_tokens is not None:
            given["max_tokens"] = max_tokens
            given.pop("max_completion_tokens", None)
        if temperature is not None:
            given["temperature"] = temperature
        # drop_params: a caller names a group and cannot know what its models do not take.
        optional: dict[str, Any] = litellm.utils.get_optional_params(
            model=self._model, custom_llm_provider=self._provider, drop_params=True, **given
        )
        return optional

    def _understand(self, answer: bytes) -> RawReply:
        try:
            raw = self._protocol.read(json.loads(answer))
        except Exception:  # noqa: BLE001 - an answer may be anything
            raise AttemptError(FallbackReason.UNAVAILABLE, status=200) from None
        if not raw.content.strip():
            reason = FallbackReason.CONTENT_POLICY if raw.refused else FallbackReason.UNAVAILABLE
            raise AttemptError(reason, status=200)
        return raw

    def _reply(self, raw: RawReply) -> Reply:
        cost_usd = self._price.cost(
            raw.prompt_tokens, raw.completion_tokens, cache_read=raw.cache_read, cache_write=raw.cache_write
        )
        return make_reply(
            raw.content, raw.model or self._model, raw.prompt_tokens, raw.completion_tokens, cost_usd
        )


async def _read_body(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """Read up to `limit` bytes of a body; an answer of 200 that is longer is a ValueError."""
    parts: list[bytes] = []
    size = 0
    async for part in response.content.iter_any():
        parts.append(part)
        size += len(part)
        if size > limit:
            if response.status == 200:
                raise ValueError("the answer is too long")
            break
    return b"".join(parts)


def _first(environ: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((environ[name] for name in names if environ.get(name)), None)


def _proxy_for(url: str) -> str | None:
    """Return the proxy that the environment (``HTTPS_PROXY``, ``NO_PROXY``, ...) names for `url`."""
    parts = urlsplit(url)
    if parts.hostname is None or urllib.request.proxy_bypass(parts.hostname):
        return None
    return urllib.request.getproxies().get(parts.scheme)
