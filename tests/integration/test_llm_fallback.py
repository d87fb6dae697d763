"""LLM-01: fallback routing, on real sockets between stub providers.

The first seven tests are the routing tests of the seed: who answers when who is down, and what the
envelope says about it. Those after pin the rule down: each deployment at most once per request, no
other group while a healthy deployment is untried,
"""

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


def calls(world: World) -> dict[str, int]:
    """How often each deployment was asked."""
    return {name: stub.count for name, stub in world.providers.items()}


# --- the seven routing tests ---


async def test_first_provider_of_quality_answers(world: World) -> None:
    reply = await world.pool.reply("quality")
    assert reply.model == "claude-sonnet-4-20250514"
    assert (reply.requested_group, reply.served_group, reply.degraded) == ("quality", "quality", False)
    assert reply.fallback_reason is None
    assert [(a.deployment, a.group, a.outcome) for a in reply.attempts] == [(ANTHROPIC, "quality", "ok")]
    assert calls(world) == {ANTHROPIC: 1, OPENAI: 0, OLLAMA: 0}


async def test_anthropic_down_openai_answers_every_time(world: World) -> None:
    await world.anthropic.down()
    for _ in range(100):
        reply = await world.pool.reply("quality")
        assert reply.served_group == "quality"
        assert reply.model == "gpt-4o-2024-08-06"
        assert not reply.degraded
        assert reply.fallback_reason is None
    assert calls(world) == {ANTHROPIC: 0, OPENAI: 100, OLLAMA: 0}


async def test_quality_down_fast_answers_and_says_so(world: World) -> None:
    await world.anthropic.down()
    world.openai.default = status(500)
    reply = await world.pool.reply("quality")
    assert reply.model == "qwen3:8b"
    assert (reply.requested_group, reply.served_group, reply.degraded) == ("quality", "fast", True)
    assert reply.fallback_reason is FallbackReason.UNAVAILABLE
    assert [(a.deployment, a.group, a.outcome) for a in reply.attempts] == [
        (ANTHROPIC, "quality", FallbackReason.UNAVAILABLE),
        (OPENAI, "quality", FallbackReason.UNAVAILABLE),
        (OLLAMA, "fast", "ok"),
    ]
    assert calls(world) == {ANTHROPIC: 0, OPENAI: 1, OLLAMA: 1}


async def test_everything_down_is_503_within_the_deadline(world: World) -> None:
    for stub in world.providers.values():
        await stub.down()
    began = asyncio.get_running_loop().time()
    response = await world.pool.ask("quality", timeout_s=5)
    assert asyncio.get_running_loop().time() - began < 5
    assert response.status_code == 503
    problem = response.json()
    assert problem["code"] == ProblemCode.PROVIDERS_FAILED
    assert problem["requested_group"] == "quality"
    assert problem["fallback_reason"] == "unavailable"
    assert [a["deployment"] for a in problem["attempts"]] == [ANTHROPIC, OPENAI, OLLAMA]


async def test_refused_fallback_never_reaches_fast(world: World) -> None:
    await world.anthropic.down()
    world.openai.default = status(429)
    problem = await world.pool.problem("quality", fallback="refuse")
    assert (problem.status, problem.code) == (503, ProblemCode.FALLBACK_REFUSED)
    assert problem.fallback_reason is FallbackReason.RATE_LIMITED
    assert [a.deployment for a in problem.attempts] == [ANTHROPIC, OPENAI]
    # Refusing a fallback does not forbid the group itself to answer.
    await world.anthropic.up()
    assert (await world.pool.reply("quality", fallback="refuse")).served_group == "quality"
    assert world.ollama.count == 0


async def test_fast_asked_for_is_not_degraded(world: World) -> None:
    reply = await world.pool.reply("fast")
    assert (reply.requested_group, reply.served_group, reply.degraded) == ("fast", "fast", False)
    assert reply.fallback_reason is None
    assert calls(world) == {ANTHROPIC: 0, OPENAI: 0, OLLAMA: 1}


async def test_cooled_deployment_is_skipped_and_comes_back(
    monkeypatch: pytest.MonkeyPatch, through_litellm: bool
) -> None:
    async with open_world(
        monkeypatch, through_litellm=through_litellm, llm_pool_cooldown_s=SHORT_COOLDOWN_S
    ) as world:
        world.anthropic.script.append(status(429))
        first = await world.pool.reply("quality")
        assert [a.outcome for a in first.attempts] == [FallbackReason.RATE_LIMITED, "ok"]
        assert (await world.pool.health())["quality"]["cooling"] == [ANTHROPIC]
        second = await world.pool.reply("quality")
        assert [a.deployment for a in second.attempts] == [OPENAI]
        assert world.anthropic.count == 1
        await cooled(world)
        third = await world.pool.reply("quality")
        assert [a.deployment for a in third.attempts] == [ANTHROPIC]


# --- the rule ---


@pytest.mark.parametrize("act", [status(429), status(500), status(401), status(404), status(400), cut()])
async def test_each_deployment_is_asked_at_most_once(world: World, act: Act) -> None:
    for stub in world.providers.values():
        stub.default = act
    assert (await world.pool.problem("quality")).status == 503
    assert calls(world) == {ANTHROPIC: 1, OPENAI: 1, OLLAMA: 1}


@pytest.mark.parametrize("act", [status(429), status(500), status(401), status(404), status(400), cut()])
async def test_never_degraded_while_a_healthy_deployment_is_untried(world: World, act: Act) -> None:
    world.anthropic.default = act
    for _ in range(10):
        assert not (await world.pool.reply("quality")).degraded
    assert (world.openai.count, world.ollama.count) == (10, 0)


async def test_hanging_provider_is_given_up_and_the_next_asked(
    monkeypatch: pytest.MonkeyPatch, through_litellm: bool
) -> None:
    async with open_world(
        monkeypatch, through_litellm=through_litellm, llm_pool_attempt_timeout_s=0.2
    ) as world:
        world.anthropic.default = hang()
        reply = await world.pool.reply("quality")
        assert [(a.deployment, a.outcome) for a in reply.attempts] == [
            (ANTHROPIC, FallbackReason.TIMEOUT),
            (OPENAI, "ok"),
        ]
        assert 190 <= reply.attempts[0].ms < 2000
        await until(lambda: world.anthropic.abandoned == 1)


async def test_32_concurrent_requests_have_exactly_their_own_attempts(world: World) -> None:
    # Half of Anthropic's calls fail with a request error (which cools nothing), so that lists differ.
    world.anthropic.script.extend(status(400) if n % 2 else answer(f"claude {n}") for n in range(32))
    world.openai.default = answer("gpt", delay_s=0.05)
    replies = await asyncio.gather(*(world.pool.reply("quality", f"question {n}") for n in range(32)))
    lists = Counter(tuple(a.outcome for a in reply.attempts) for reply in replies)
    assert lists == {("ok",): 16, (FallbackReason.BAD_REQUEST, "ok"): 16}
    for reply in replies:
        assert reply.content.startswith("gpt" if len(reply.attempts) == 2 else "claude")
    assert calls(world) == {ANTHROPIC: 32, OPENAI: 16, OLLAMA: 0}
