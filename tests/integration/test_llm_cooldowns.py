"""Cooldowns and trials, on real sockets: when a deployment is left alone, and by whom."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from shared.contract import FallbackReason, ProblemCode
from tests.support.providers import Act, answer, cut, hang, status
from tests.support.providers_pool import (
    ANTHROPIC,
    OLLAMA,
    OPENAI,
    SHORT_COOLDOWN_S,
    World,
    cooled,
    open_world,
    until,
)


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch, *, through_litellm: bool) -> AsyncIterator[World]:
    async with open_world(monkeypatch, through_litellm=through_litellm) as opened:
        yield opened


async def test_retry_after_is_honoured_by_every_request(
    monkeypatch: pytest.MonkeyPatch, through_litellm: bool
) -> None:
    async with open_world(monkeypatch, through_litellm=through_litellm, llm_pool_cooldown_s=0.05) as world:
        # LiteLLM imports what a provider needs when it is first asked, which may take seconds.
        world.anthropic.script.append(status(400))
        await world.pool.reply("quality")
        # Far longer than the pool's own cooldown, and than four requests take on a busy machine.
        world.anthropic.default = status(429, retry_after="3")
        await world.pool.reply("quality")
        loop = asyncio.get_running_loop()
        began = loop.time()
        while loop.time() < began + 0.9:
            await asyncio.gather(*(world.pool.reply("quality") for _ in range(4)))
            assert world.anthropic.count == 2
        world.anthropic.default = answer()
        while world.anthropic.count == 2:
            await world.pool.reply("quality")
            assert loop.time() < began + 10


async def test_retry_after_of_an_overloaded_provider_is_honoured_too(world: World) -> None:
    world.anthropic.default = status(529, retry_after="30")
    await world.pool.reply("quality")
    await world.pool.reply("quality")
    assert world.anthropic.count == 1


async def test_single_deployment_group_is_not_asked_again_before_retry_after(world: World) -> None:
    world.ollama.default = status(429, retry_after="30")
    assert (await world.pool.problem("fast")).fallback_reason is FallbackReason.RATE_LIMITED
    response = await world.pool.ask("fast")
    assert response.json()["fallback_reason"] == "cooldown"
    assert response.json()["attempts"] == []
    assert 1 <= int(response.headers["retry-after"]) <= 30
    assert world.ollama.count == 1


async def test_all_deployments_cooling_is_a_fallback_with_that_reason(world: World) -> None:
    world.anthropic.default = world.openai.default = status(429)
    assert (await world.pool.reply("quality")).fallback_reason is FallbackReason.RATE_LIMITED
    reply = await world.pool.reply("quality")
    assert (reply.degraded, reply.fallback_reason) == (True, FallbackReason.COOLDOWN)
    assert [a.deployment for a in reply.attempts] == [OLLAMA]
    problem = await world.pool.problem("quality", fallback="refuse")
    assert (problem.code, problem.fallback_reason) == (
        ProblemCode.FALLBACK_REFUSED,
        FallbackReason.COOLDOWN,
    )


@pytest.mark.parametrize("act", [status(500), cut()])
async def test_passing_failures_cool_after_those_allowed(
    monkeypatch: pytest.MonkeyPatch, through_litellm: bool, act: Act
) -> None:
    async with open_world(monkeypatch, through_litellm=through_litellm, llm_pool_allowed_fails=2) as world:
        world.anthropic.default = act
        for _ in range(6):
            await world.pool.reply("quality")
        assert world.anthropic.count == 3
        assert (await world.pool.health())["quality"]["cooling"] == [ANTHROPIC]


async def test_one_that_hangs_cools_at_once_and_one_that_is_slow_does_not(
    monkeypatch: pytest.MonkeyPatch, through_litellm: bool
) -> None:
    async with open_world(
        monkeypatch, through_litellm=through_litellm, llm_pool_attempt_timeout_s=0.5
    ) as world:
        await world.pool.reply("quality")
        # It answers the others while one waits in vain.
        world.anthropic.script.append(hang())
        slow = asyncio.create_task(world.pool.reply("quality"))
        await until(lambda: world.anthropic.count == 2)
        while not slow.done():
            await world.pool.reply("quality")
        assert [a.deployment for a in (await slow).attempts] == [ANTHROPIC, OPENAI]
        assert (await world.pool.health())["quality"]["cooling"] == []
        world.anthropic.default = hang()
        asked = world.anthropic.count
        for _ in range(3):
            await world.pool.reply("quality")
        assert world.anthropic.count == asked + 1


async def test_refused_connections_cool_too(world: World) -> None:
    await world.anthropic.down()
    attempts = [len((await world.pool.reply("quality")).attempts) for _ in range(5)]
    assert attempts == [2, 2, 2, 1, 1]


@pytest.mark.parametrize("code", [401, 403, 404])
async def test_failures_that_will_stay_cool_at_once(world: World, code: int) -> None:
    world.anthropic.default = status(code)
    for _ in range(3):
        await world.pool.reply("quality")
    assert world.anthropic.count == 1


async def test_request_errors_never_cool(world: World) -> None:
    world.anthropic.default = status(400)
    for _ in range(5):
        await world.pool.reply("quality")
    assert world.anthropic.count == 5


async def test_after_a_cooldown_one_request_tries_and_the_others_do_not_wait_for_it(
    monkeypatch: pytest.MonkeyPatch, through_litellm: bool
) -> None:
    async with open_world(
        monkeypatch,
        through_litellm=through_litellm,
        llm_pool_cooldown_s=SHORT_COOLDOWN_S,
        llm_pool_attempt_timeout_s=3,
    ) as world:
        world.anthropic.script.append(status(429))
        await world.pool.reply("quality")
        await cooled(world)
        world.anthropic.default = hang()
        replies = await asyncio.gather(*(world.pool.reply("quality") for _ in range(32)))
        assert world.anthropic.count == 2
        lists = Counter(tuple(a.deployment for a in reply.attempts) for reply in replies)
        assert lists == {(OPENAI,): 31, (ANTHROPIC, OPENAI): 1}


async def test_once_the_trial_is_answered_everybody_asks_again(
    monkeypatch: pytest.MonkeyPatch, through_litellm: bool
) -> None:
    async with open_world(
        monkeypatch, through_litellm=through_litellm, llm_pool_cooldown_s=SHORT_COOLDOWN_S
    ) as world:
        world.anthropic.script.append(status(429))
        await world.pool.reply("quality")
        await cooled(world)
        world.anthropic.default = answer(delay_s=2)
        await asyncio.gather(*(world.pool.reply("quality") for _ in range(32)))
        assert world.anthropic.count == 2
        world.anthropic.default = answer()
        await asyncio.gather(*(world.pool.reply("quality") for _ in range(32)))
        assert world.anthropic.count == 34


async def test_a_caller_that_leaves_during_the_trial_leaves_it_to_the_next(
    monkeypatch: pytest.MonkeyPatch, through_litellm: bool
) -> None:
    async with open_world(
        monkeypatch, through_litellm=through_litellm, llm_pool_cooldown_s=SHORT_COOLDOWN_S
    ) as world:
        world.ollama.script.extend([status(429), hang()])
        await world.pool.problem("fast")
        await cooled(world, "fast")
        leaving = asyncio.create_task(world.pool.ask("fast"))
        await until(lambda: world.ollama.count == 2)
        assert (await world.pool.problem("fast")).fallback_reason is FallbackReason.COOLDOWN
        leaving.cancel()
        await until(lambda: world.ollama.abandoned == 1)
        deadline = asyncio.get_running_loop().time() + 10
        while (await world.pool.ask("fast")).status_code != 200:
            assert asyncio.get_running_loop().time() < deadline


async def test_short_deadline_of_one_caller_cools_nothing_for_others(world: World) -> None:
    # LiteLLM imports what a provider needs when it is first asked, which may take seconds.
    world.anthropic.script.append(status(400))
    world.openai.script.append(status(400))
    await world.pool.reply("quality")
    for stub in world.providers.values():
        stub.default = answer(delay_s=1)
    for _ in range(4):
        assert (await world.pool.problem("quality", timeout_s=0.4)).code is ProblemCode.DEADLINE_EXCEEDED
    assert (await world.pool.health())["quality"]["cooling"] == []
    assert (await world.pool.reply("quality")).attempts[0].deployment == ANTHROPIC
