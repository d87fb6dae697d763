"""Providers that the pool hands to LiteLLM whole: the same rule, the same reasons, the same silence."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import yaml

from llm_pool.providers.generic import GenericCaller
from shared.contract import FallbackReason
from tests.support.providers import (
    ANSWER,
    COMPLETION_TOKENS,
    PROMPT_TOKENS,
    Act,
    StubProvider,
    answer,
    cut,
    empty,
    garbage,
    half,
    hang,
    status,
)
from tests.support.providers_pool import (
    CANARIES,
    OPENAI_KEY,
    Pool,
    clean_environment,
    running_pool,
    until,
)

MODELS = {
    "deepseek": "deepseek/deepseek-chat",
    "mistral": "mistral/mistral-small-latest",
    "azure": "azure/gpt-4o",
}
"""A deployment for each of LiteLLM's ways to send: two of its own, and OpenAI's library."""

KINDS: list[tuple[str, Act, FallbackReason]] = [
    ("429", status(429), FallbackReason.RATE_LIMITED),
    ("500", status(500), FallbackReason.UNAVAILABLE),
    ("503", status(503), FallbackReason.UNAVAILABLE),
    ("401", status(401), FallbackReason.AUTH),
    ("404", status(404), FallbackReason.MODEL_NOT_FOUND),
    ("400", status(400), FallbackReason.BAD_REQUEST),
    ("422", status(422), FallbackReason.BAD_REQUEST),
    ("hang", hang(), FallbackReason.TIMEOUT),
    ("cut", cut(), FallbackReason.UNAVAILABLE),
    ("half", half(), FallbackReason.UNAVAILABLE),
    ("garbage", garbage(), FallbackReason.UNAVAILABLE),
    ("empty", empty(), FallbackReason.UNAVAILABLE),
]
"""Kinds of failure: name, what the stub does, how it must be told."""


@asynccontextmanager
async def generic_pool(
    patch: pytest.MonkeyPatch, folder: Path, **settings: object
) -> AsyncIterator[tuple[StubProvider, Pool]]:
    """One stub that every group's only deployment leads to."""
    clean_environment(patch)
    async with AsyncExitStack() as stack:
        stub = await stack.enter_async_context(StubProvider("openai", "served-model"))
        model_list = []
        for group, model in MODELS.items():
            base = stub.root if group == "azure" else f"{stub.root}/v1"
            params = {"model": model, "api_base": base, "api_key": OPENAI_KEY}
            if group == "azure":
                params["api_version"] = "2024-10-21"
            model_list.append({"model_name": group, "litellm_params": params})
        path = folder / "litellm.yaml"
        path.write_text(yaml.safe_dump({"model_list": model_list}))
        pool = await stack.enter_async_context(running_pool(patch, llm_pool_config=path, **settings))
        for deployment in pool.app.state.pool.router.deployments:
            assert isinstance(deployment.caller, GenericCaller)
        yield stub, pool


async def test_litellm_answers_for_other_providers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with generic_pool(monkeypatch, tmp_path) as (stub, pool):
        for group, model in MODELS.items():
            reply = await pool.reply(group, max_tokens=9, temperature=0.5)
            assert reply.content == ANSWER
            assert reply.model.endswith("served-model")
            assert [(a.deployment, a.outcome) for a in reply.attempts] == [(model, "ok")]
            assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (
                PROMPT_TOKENS,
                COMPLETION_TOKENS,
            )
            assert stub.requests[-1]["temperature"] == 0.5
            assert stub.requests[-1]["max_tokens"] == 9
        assert stub.count == 3


@pytest.mark.parametrize("group", list(MODELS))
async def test_each_failure_has_its_reason_and_is_asked_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, group: str
) -> None:
    settings = {
        "llm_pool_allowed_fails": 1000,
        "llm_pool_cooldown_s": 0.001,
    }
    async with generic_pool(monkeypatch, tmp_path, **settings) as (stub, pool):
        await pool.reply(group)  # LiteLLM imports the provider's code when it is first asked
        for kind, act, reason in KINDS:
            served = stub.count
            stub.default = act
            problem = await pool.problem(group, timeout_s=1.5)
            assert [a.outcome for a in problem.attempts] == [reason], kind
            assert stub.count == served + 1, kind
        await stub.down()
        assert (await pool.problem(group)).fallback_reason is FallbackReason.UNAVAILABLE


async def test_retry_after_reaches_the_cooldown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with generic_pool(monkeypatch, tmp_path, llm_pool_cooldown_s=0.001) as (stub, pool):
        for group in MODELS:
            stub.script.append(status(429, retry_after="30"))
            assert (await pool.problem(group)).fallback_reason is FallbackReason.RATE_LIMITED
            assert (await pool.problem(group)).fallback_reason is FallbackReason.COOLDOWN, group
        assert stub.count == 3


async def test_concurrent_requests_have_their_own_attempts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with generic_pool(monkeypatch, tmp_path) as (stub, pool):
        stub.script.extend(status(400) if n % 2 else answer(delay_s=0.02) for n in range(32))
        responses = await asyncio.gather(*(pool.ask("deepseek") for _ in range(32)))
        outcomes = Counter(tuple(a["outcome"] for a in r.json()["attempts"]) for r in responses)
        assert outcomes == {("ok",): 16, ("bad_request",): 16}


async def test_client_that_leaves_ends_the_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with generic_pool(monkeypatch, tmp_path) as (stub, pool):
        stub.default = hang()
        for number, group in enumerate(MODELS, start=1):
            task = asyncio.create_task(pool.ask(group))
            await until(lambda number=number: stub.count == number)  # type: ignore[misc]
            task.cancel()
            await until(lambda number=number: stub.abandoned == number)  # type: ignore[misc]
            name = f'outcome="cancelled",requested_group="{group}",served_group="_none"'
            deadline = asyncio.get_running_loop().time() + 10
            while (await pool.metrics())[f"konstruct_llm_requests_total{{{name}}}"] != 1:
                assert asyncio.get_running_loop().time() < deadline, group


async def test_litellm_keeps_quiet(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    echo = "PROVIDER-WORDS " + " ".join(CANARIES)
    async with generic_pool(monkeypatch, tmp_path) as (stub, pool):
        texts = []
        for code in (400, 401, 404, 429, 500):
            for group in MODELS:
                stub.script.append(status(code, f'{{"error": {{"message": "{echo}"}}}}'))
                texts.append((await pool.ask(group)).text)
        texts.append((await pool.client.get("/metrics")).text)
    texts += [record.getMessage() + str(record.exc_info) for record in caplog.records]
    texts += list(capfd.readouterr())
    for text in texts:
        for canary in (*CANARIES, "PROVIDER-WORDS"):
            assert canary not in text
