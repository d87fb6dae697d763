"""The one place that imports LiteLLM, and makes it quiet and local first.

LiteLLM reads its switches from the environment while it is imported, so they are set here, before:
left alone it fetches price lists and header tables from the network, loads a ``.env`` file from any
parent folder, and logs provider errors with whatever they quote.
"""

from __future__ import annotations

import logging
import os
from typing import Any

import openai

_SWITCHES = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_LOCAL_BLOG_POSTS": "True",
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_LOG": "ERROR",
}
"""Environment of the import: bundled tables only, no ``.env``, no debug log."""

os.environ.update(_SWITCHES)

import litellm as _litellm  # noqa: E402
from litellm.litellm_core_utils.logging_worker import GLOBAL_LOGGING_WORKER  # noqa: E402
from litellm.llms.base_llm.chat.transformation import BaseLLMException  # noqa: E402
from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler  # noqa: E402

__all__ = ["PRICES", "BaseLLMException", "close_litellm", "litellm", "quiet_litellm"]

litellm: Any = _litellm
"""The package; its types are too loose to check against."""

PRICES: dict[str, dict[str, Any]] = {name: dict(entry) for name, entry in litellm.model_cost.items()}
"""LiteLLM's bundled price list, by model; a copy, because every Router writes to the original."""

_SILENCED = ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy")
"""Loggers that may write provider text, which may hold keys; the pool logs failures itself."""

_QUIETER = ("httpx", "httpcore", "openai", "aiohttp.client")
"""Loggers that write a line per call, with URLs that may hold keys."""


async def _refuse_second_send(_self: AsyncHTTPHandler, *_args: object, **_kwargs: object) -> None:
    """Replace LiteLLM's unasked second send after a broken connection.

    It is called while the first error is being handled; raising that again ends the attempt.
    """
    raise  # noqa: PLE0704


def quiet_litellm() -> None:
    """Turn off what LiteLLM does beside the call: telemetry, tips, logs, second sends. Idempotent."""
    litellm.telemetry = False
    litellm.suppress_debug_info = True
    litellm.turn_off_message_logging = True
    litellm.num_retries = 0
    litellm.drop_params = False  # true would send a call that got a 422 a second time
    setattr(AsyncHTTPHandler, "single_connection_post_request", _refuse_second_send)  # noqa: B010
    for name in _SILENCED:
        logger = logging.getLogger(name)
        logger.setLevel(logging.CRITICAL + 1)
        logger.propagate = False
    for name in _QUIETER:
        logging.getLogger(name).setLevel(logging.WARNING)


async def close_litellm() -> None:
    """Close what LiteLLM keeps for the process: the task of its logging, and its connections.

    Its own clean-up leaves the clients of OpenAI's library open.
    """
    await GLOBAL_LOGGING_WORKER.stop()
    clients = litellm.in_memory_llm_clients_cache.cache_dict
    for client in [client for client in clients.values() if isinstance(client, openai.AsyncOpenAI)]:
        await client.close()
    await litellm.close_litellm_async_clients()
    clients.clear()


__all__ = ["PRICES", "close_litellm", "litellm", "quiet_litellm"]
