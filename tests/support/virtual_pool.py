"""The pool's real dispatcher on a clock that jumps, between providers that answer after so many seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import aiohttp

from llm_pool.budget import Planner
from llm_pool.cooldown import Cooldowns
from llm_pool.dispatch import Dispatcher
from llm_pool.metrics import Metrics
from llm_pool.pool_config import PoolConfig
from llm_pool.providers.base import Prompt, Reply
from llm_pool.providers.defaults import default_config
from llm_pool.router import PoolRouter
from llm_pool.spans import CallSpans
from shared.config import Settings
from shared.contract import CompletionRequest, CompletionResponse, Usage
from tests.support.virtual_time import VirtualLoop, run

KEYS = {"ANTHROPIC_API_KEY": "a", "OPENAI_API_KEY": "o", "OLLAMA_BASE_URL": "http://127.0.0.1:1"}
"""What makes all default deployments usable."""

METRICS = Metrics()
"""Shared by all pools here; nobody reads them."""


@dataclass
class Provider:
    """Answers after so many seconds."""

    after_s: float

    async def call(self, prompt: Prompt, timeout_s: float) -> Reply:
        """Answer late, or never in time."""
        await asyncio.sleep(self.after_s)
        return Reply("text", "model", Usage(prompt_tokens=1, completion_tokens=1), None)


@dataclass
class Pool:
    """A dispatcher on virtual time."""

    config: PoolConfig
    settings: Settings
    answers: Mapping[str, float]
    """Seconds after which deployments answer, by name; the others hang."""

    async def __aenter__(self) -> Pool:
        clock = asyncio.get_running_loop().time
        self.session = aiohttp.ClientSession()
        self.router = PoolRouter(self.config, self.session, KEYS)
        for group, members in self.router.groups.items():
            self.router.groups[group] = tuple(
                replace(one, caller=Provider(self.answers.get(one.name, 1e6))) for one in members
            )
        cooldowns = Cooldowns(
            default_s=self.settings.llm_pool_cooldown_s,
            allowed_fails=self.settings.llm_pool_allowed_fails,
            clock=clock,
        )
        self.planner = Planner(
            self.router,
            cooldowns,
            attempt_timeout_s=self.settings.llm_pool_attempt_timeout_s,
            ollama_timeout_s=self.settings.llm_pool_ollama_timeout_s,
        )
        self.dispatcher = Dispatcher(
            self.router,
            cooldowns,
            METRICS,
            planner=self.planner,
            timeout_s=self.settings.llm_pool_timeout_s,
            spans=CallSpans(content=False),
            clock=clock,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self.router.close()
        await self.session.close()

    async def ask(self, group: str, **fields: Any) -> CompletionResponse:
        """Ask once."""
        request = CompletionRequest.model_validate(
            {"model": group, "messages": [{"role": "user", "content": "Hi"}], "tenant_id": "acme", **fields}
        )
        now = asyncio.get_running_loop().time()
        return await self.dispatcher.complete(request, self.dispatcher.start(request, now), now)


def ask_once(pool: Pool, group: str, **fields: Any) -> tuple[CompletionResponse | Exception, float]:
    """Return what a new pool answers to one request, and after how long."""
    loop = VirtualLoop()

    async def work() -> tuple[CompletionResponse | Exception, float]:
        async with pool:
            began = loop.time()
            try:
                found: CompletionResponse | Exception = await pool.ask(group, **fields)
            except Exception as error:  # noqa: BLE001 - looked at by the test
                found = error
            return found, loop.time() - began

    return run(loop, work())


def default_pool(answers: Mapping[str, float], **changes: Any) -> Pool:
    """Make a pool of the default groups; `changes` are settings."""
    shipped = Settings(**changes)
    return Pool(default_config(shipped, KEYS), shipped, answers)
