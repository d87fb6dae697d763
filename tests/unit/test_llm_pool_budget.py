"""How the time of a request is divided: the real dispatcher on a clock that jumps, and the shipped defaults.

What docs/llm-pool.md promises is computed here anew: each group that may be asked has one whole call, or its
part of the request's time if that is too short; each deployment has half of an equal part of that.
"""

from __future__ import annotations

import asyncio
import random
import statistics
from typing import cast

import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from llm_pool.failures import DeadlineExceeded, FallbackRefused
from llm_pool.pool_config import DeploymentSpec, PoolConfig
from orchestrator.agents.runner import request_timeout_s
from shared.config import Settings
from shared.contract import CompletionResponse, FallbackPolicy, FallbackReason
from tests.support.providers_pool import ANTHROPIC, OLLAMA, OPENAI
from tests.support.virtual_pool import Pool, Provider, ask_once, default_pool
from tests.support.virtual_time import VirtualLoop, run

COLD_START_S = 45.0
"""What a local model on a busy processor may need to load and answer."""


def test_the_defaults_make_sense_together() -> None:
    shipped = Settings()
    asked_for = request_timeout_s(shipped.message_deadline_s)
    # The pool's own verdict, with all attempts in it, comes before the worker gives up.
    assert shipped.llm_pool_timeout_s <= asked_for < shipped.message_deadline_s
    calls = 2 * shipped.llm_pool_attempt_timeout_s + shipped.llm_pool_ollama_timeout_s
    assert calls <= shipped.llm_pool_timeout_s
    assert shipped.llm_pool_ollama_timeout_s >= COLD_START_S


@pytest.mark.parametrize("hanging", [{ANTHROPIC}, {OPENAI}, {ANTHROPIC, OPENAI}], ids=len)
def test_at_the_defaults_a_model_that_is_still_loading_is_heard(hanging: set[str]) -> None:
    answers = {name: 1.0 for name in (ANTHROPIC, OPENAI) if name not in hanging} | {OLLAMA: COLD_START_S}
    reply, seconds = ask_once(
        default_pool(answers), "quality", timeout_s=request_timeout_s(Settings().message_deadline_s)
    )
    assert isinstance(reply, CompletionResponse)
    assert reply.degraded == (len(hanging) == 2)
    assert seconds < request_timeout_s(Settings().message_deadline_s)


@pytest.mark.parametrize("timeout_s", [0.1, 1, 5, 20, 60, 600])
def test_callers_with_little_time_are_answered_too(timeout_s: float) -> None:
    least = timeout_s * 50 / 80  # the part of `fast`: its limit beside that of one call of `quality`
    pool = default_pool({OLLAMA: min(least, 50) * 0.99})
    reply, seconds = ask_once(pool, "quality", timeout_s=timeout_s)
    assert isinstance(reply, CompletionResponse)
    assert (reply.served_group, reply.fallback_reason) == ("fast", FallbackReason.TIMEOUT)
    assert seconds <= timeout_s


def test_who_is_asked_last_has_all_that_is_left() -> None:
    whole = Settings().llm_pool_timeout_s
    reply, _ = ask_once(default_pool({OLLAMA: whole - 1}), "fast")
    assert isinstance(reply, CompletionResponse)
    reply, _ = ask_once(default_pool({OPENAI: whole - 31}), "quality", fallback=FallbackPolicy.REFUSE.value)
    assert isinstance(reply, CompletionResponse)
    assert not reply.degraded


def test_at_the_deadline_a_refused_fallback_is_still_called_that() -> None:
    refused, seconds = ask_once(default_pool({}), "quality", fallback=FallbackPolicy.REFUSE.value)
    assert isinstance(refused, FallbackRefused)
    late, all_of_it = ask_once(default_pool({}), "quality")
    assert isinstance(late, DeadlineExceeded)
    assert [attempt.outcome for attempt in late.attempts] == ["timeout"] * 3
    assert seconds == pytest.approx(all_of_it) == pytest.approx(Settings().llm_pool_timeout_s)


def test_a_deployments_own_limit_holds_whatever_the_settings_say() -> None:
    for own in (5.0, 80.0):
        config = PoolConfig((DeploymentSpec("g0", {"model": "openai/a", "api_key": "k", "timeout": own}),))
        late, seconds = ask_once(Pool(config, Settings(), {}), "g0")
        assert isinstance(late, Exception)
        assert seconds == pytest.approx(own)


def test_settings_that_contradict_each_other_are_told() -> None:
    def told(**changes: float) -> list[str]:
        async def work() -> list[str]:
            async with default_pool({}, **changes) as pool:
                return pool.planner.warnings(pool.settings.llm_pool_timeout_s)

        return run(VirtualLoop(), work())

    assert told() == []
    (said,) = told(llm_pool_attempt_timeout_s=60)
    assert said.startswith("group quality: ")
    assert "170 s, and a request has 110 s" in said
    assert len(told(llm_pool_timeout_s=20)) == 2


def test_once_they_are_back_they_are_asked_again_within_two_minutes() -> None:
    async def work() -> float:
        loop = asyncio.get_running_loop()
        answers = {OLLAMA: 1.0}
        async with default_pool(answers) as pool:
            assert (await pool.ask("quality")).degraded
            for deployment in pool.router.groups["quality"]:
                cast("Provider", deployment.caller).after_s = 2.0
            back = loop.time()
            while (await pool.ask("quality")).degraded:  # noqa: ASYNC110 - asks until it is back
                await asyncio.sleep(1)
            return loop.time() - back

    assert run(VirtualLoop(), work()) < 4 * Settings().llm_pool_attempt_timeout_s


Asked = tuple[float, CompletionResponse, float]
"""When a request was sent, its answer, and the seconds that it took."""


async def _stream(pool: Pool, chance: random.Random, lasts_s: float) -> list[Asked]:
    """Ask every other second or so, as many at once as there are."""
    loop = asyncio.get_running_loop()

    async def one() -> Asked:
        began = loop.time()
        return began, await pool.ask("quality", timeout_s=116), loop.time() - began

    tasks = []
    while loop.time() < lasts_s:
        tasks.append(asyncio.create_task(one()))
        await asyncio.sleep(chance.expovariate(0.5))
    return [await task for task in tasks]


def test_while_both_hang_every_request_is_answered_and_most_at_once() -> None:
    async def work() -> list[Asked]:
        async with default_pool({OLLAMA: 1.0}) as pool:
            return await _stream(pool, random.Random(7), lasts_s=1800.0)

    answered = run(VirtualLoop(), work())
    assert {reply.served_group for _, reply, _ in answered} == {"fast"}
    seconds = [took for _, _, took in answered]
    assert max(seconds) < 62
    assert statistics.median(seconds) < 2
    # From the first minute on a request waits only if it tries a provider whose cooldown is over.
    waited = [took for moment, _, took in answered if moment > 60 and took > 2]
    assert len(waited) <= 2 * 1800 / 150


def test_a_sender_that_is_alone_waits_once_and_then_seldom() -> None:
    """With nothing else under way one timeout is all that there is to learn from."""

    async def work() -> list[float]:
        loop = asyncio.get_running_loop()
        async with default_pool({OLLAMA: 1.0}) as pool:
            took = []
            for _ in range(300):
                began = loop.time()
                await pool.ask("quality", timeout_s=116)
                took.append(loop.time() - began)
            return took

    took = run(VirtualLoop(), work())
    assert took[0] == pytest.approx(61)
    assert took[1] == pytest.approx(1)
    assert sum(seconds > 2 for seconds in took[1:]) / len(took) < 0.05


_SECONDS = st.floats(min_value=0.5, max_value=600, allow_nan=False)


@st.composite
def _pools(draw: st.DrawFn) -> tuple[PoolConfig, Settings]:
    names = [f"g{number}" for number in range(draw(st.integers(1, 4)))]
    specs = [
        DeploymentSpec(
            group,
            {"model": f"{draw(st.sampled_from(['openai', 'ollama_chat']))}/{group}-{number}", "api_key": "k"}
            | ({"api_base": "http://127.0.0.1:1"})
            | ({"timeout": draw(_SECONDS)} if draw(st.booleans()) else {})
            | {"order": draw(st.integers(1, 2))},
        )
        for group in names
        for number in range(draw(st.integers(1, 6)))
    ]
    fallbacks = {
        group: tuple(draw(st.lists(st.sampled_from(names), unique=True, max_size=4))) for group in names
    }
    config = PoolConfig(tuple(specs), fallbacks=fallbacks, max_fallbacks=draw(st.integers(0, 5)))
    return config, Settings(
        llm_pool_timeout_s=draw(_SECONDS),
        llm_pool_attempt_timeout_s=draw(_SECONDS),
        llm_pool_ollama_timeout_s=draw(_SECONDS),
    )


def _asked_in_turn(config: PoolConfig, refuse: bool) -> list[str]:
    """Return the groups that a request for g0 asks while all hang."""
    queue, asked = ["g0"], list[str]()
    while queue and len(asked) <= config.max_fallbacks:
        if (group := queue.pop(0)) not in asked:
            asked.append(group)
            queue[:0] = [name for name in config.fallbacks[group] if name not in asked]
    return asked[:1] if refuse else asked


def _limit(spec: DeploymentSpec, shipped: Settings) -> float:
    local = spec.params["model"].startswith("ollama")
    usual = shipped.llm_pool_ollama_timeout_s if local else shipped.llm_pool_attempt_timeout_s
    return float(spec.params.get("timeout", usual))


@given(made=_pools(), asked_for=st.none() | _SECONDS, refuse=st.booleans(), data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whoever_is_healthy_is_heard_in_time(
    made: tuple[PoolConfig, Settings], asked_for: float | None, refuse: bool, data: st.DataObject
) -> None:
    config, shipped = made
    whole = min(asked_for or shipped.llm_pool_timeout_s, shipped.llm_pool_timeout_s)
    turns = _asked_in_turn(config, refuse)
    reachable = [spec for spec in config.deployments if spec.group in turns]
    healthy = data.draw(st.lists(st.sampled_from(reachable), min_size=1, max_size=3, unique_by=id))
    # Groups that only a longer chain would reach have time reserved, too: which are asked shows later.
    every = set(turns) if refuse else {"g0", *(name for names in config.fallbacks.values() for name in names)}
    call = {
        group: max(_limit(spec, shipped) for spec in config.deployments if spec.group == group)
        for group in every
    }
    part = min(1.0, whole / sum(call.values()))
    least = {}
    for spec in healthy:
        members = sum(one.group == spec.group for one in config.deployments)
        promised = min(_limit(spec, shipped), call[spec.group] * part / members / 2)
        least[spec.params["model"]] = promised * 0.999
    assume(min(least.values()) > 1e-3)
    event(f"{len(turns)} groups")
    reply, seconds = ask_once(
        Pool(config, shipped, least),
        "g0",
        timeout_s=asked_for,
        fallback=(FallbackPolicy.REFUSE if refuse else FallbackPolicy.ALLOW).value,
    )
    assert isinstance(reply, CompletionResponse), (reply, whole, least)
    assert reply.attempts[-1].deployment in least
    assert seconds <= whole + 1e-6
