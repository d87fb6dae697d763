"""Calls through ``litellm.acompletion``, for every provider that `direct` does not speak to itself."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import aiohttp

from llm_pool.failures import AttemptError, reason_of, retry_after_of
from llm_pool.litellm_setup import BaseLLMException, litellm
from llm_pool.pricing import PriceTag
from llm_pool.providers.base import Prompt, Reply, count, make_reply
from shared.contract import FallbackReason

TIMEOUT_MARGIN_S = 1.0
"""What LiteLLM is given beyond the call's time: the dispatcher ends the call, and knows why it ended;
what providers' libraries make of their own timing out is not always told as that."""

_BY_TYPE: tuple[tuple[type[Exception], FallbackReason], ...] = (
    (litellm.ContextWindowExceededError, FallbackReason.CONTEXT_WINDOW),
    (litellm.ContentPolicyViolationError, FallbackReason.CONTENT_POLICY),
    (litellm.RateLimitError, FallbackReason.RATE_LIMITED),
    (litellm.Timeout, FallbackReason.TIMEOUT),
    (litellm.AuthenticationError, FallbackReason.AUTH),
    (litellm.PermissionDeniedError, FallbackReason.AUTH),
    (litellm.NotFoundError, FallbackReason.MODEL_NOT_FOUND),
    (litellm.APIConnectionError, FallbackReason.UNAVAILABLE),
)
"""LiteLLM's exceptions, most special first; others are read by their status."""


class GenericCaller:
    """Asks one deployment through LiteLLM."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        model: str,
        provider: str,
        params: Mapping[str, Any],
        price: PriceTag,
    ) -> None:
        """Keep what every call needs.

        Args:
            session: Connections, which most of LiteLLM's providers use; closed by its owner.
            model: Model id, as the provider knows it.
            provider: LiteLLM's name of the provider.
            params: LiteLLM parameters of the call, secrets resolved.
            price: The model's price.
        """
        self._session = session
        self._model = model
        self._provider = provider
        self._price = price
        self._params = dict(params)
        self._supported = frozenset(
            litellm.get_supported_openai_params(model=model, custom_llm_provider=provider) or ()
        )

    async def call(self, prompt: Prompt, timeout_s: float) -> Reply:
        """Ask once; see `llm_pool.providers.base.Caller`."""
        chosen: dict[str, Any] = {}
        if prompt.max_tokens is not None and "max_tokens" in self._supported:
            chosen["max_tokens"] = prompt.max_tokens
        if prompt.temperature is not None and "temperature" in self._supported:
            chosen["temperature"] = prompt.temperature
        try:
            answer = await litellm.acompletion(
                **{
                    **self._params,
                    **chosen,
                    "messages": prompt.as_dicts(),
                    "timeout": timeout_s + TIMEOUT_MARGIN_S,
                    "max_retries": 0,
                    "num_retries": 0,
                    "shared_session": self._session,
                }
            )
        except Exception as error:  # noqa: BLE001 (whatever LiteLLM raises, the attempt failed)
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                # Some of LiteLLM's providers turn a cancellation into an error of their own.
                raise asyncio.CancelledError from None
            raise _translated(error) from None
        return self._reply(answer)

    def _reply(self, answer: Any) -> Reply:
        try:
            choice = answer.choices[0]
            content = choice.message.content or ""
            usage = getattr(answer, "usage", None)
            prompt_tokens = count(getattr(usage, "prompt_tokens", None))
            completion_tokens = count(getattr(usage, "completion_tokens", None))
            # LiteLLM puts its own name of some providers before the model's.
            model = (answer.model or self._model).removeprefix(f"{self._provider}/")
        except Exception:  # noqa: BLE001 - an answer may be anything
            raise AttemptError(FallbackReason.UNAVAILABLE, status=200) from None
        if not isinstance(content, str) or not content.strip():
            filtered = choice.finish_reason == "content_filter"
            raise AttemptError(
                FallbackReason.CONTENT_POLICY if filtered else FallbackReason.UNAVAILABLE, status=200
            )
        cost_usd = self._price.cost(prompt_tokens, completion_tokens)
        return make_reply(content, model, prompt_tokens, completion_tokens, cost_usd)


def _provider_error(error: BaseException) -> BaseException:
    """Return what the provider said, where LiteLLM has no class for it and calls it a connection error."""
    said: BaseException | None = error
    while said is not None and not isinstance(said, BaseLLMException):
        said = said.__cause__ or said.__context__
    return said if isinstance(error, litellm.APIConnectionError) and said is not None else error


def _translated(raised: Exception) -> AttemptError:
    error = _provider_error(raised)
    status = getattr(error, "status_code", None)
    status = status if isinstance(status, int) else None
    response = getattr(raised, "response", None)
    headers = getattr(raised, "litellm_response_headers", None) or getattr(response, "headers", None) or {}
    retry_after = retry_after_of(headers)
    for kind, reason in _BY_TYPE:
        if isinstance(error, kind):
            return AttemptError(reason, retry_after=retry_after, status=status)
    reason = FallbackReason.UNAVAILABLE if status is None else reason_of(status, str(error))
    return AttemptError(reason, retry_after=retry_after, status=status)
