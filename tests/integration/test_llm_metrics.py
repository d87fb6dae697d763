"""The metrics: what they count is what the stubs counted, and their labels come from the configuration."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.providers import COMPLETION_TOKENS, PROMPT_TOKENS, answer, cut, garbage, status
from tests.support.providers_pool import ANTHROPIC, OLLAMA, OPENAI, World, open_world


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    # No cooldowns: every request walks the whole way, so that the sums can be foretold.
    settings: dict[str, Any] = {"llm_pool_allowed_fails": 10_000, "llm_pool_cooldown_s": 0.0001}
    async with open_world(monkeypatch, **settings) as opened:
        yield opened


def total(samples: dict[str, float], name: str, **labels: str) -> float:
    """Sum the samples of a metric that have these labels."""
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    return sum(
        value
        for sample, value in samples.items()
        if sample.split("{")[0] == name and all(label in sample for label in wanted)
    )


async def test_every_series_exists_at_zero_from_the_start(world: World) -> None:
    samples = await world.pool.metrics()
    for name in (
        'konstruct_llm_requests_total{outcome="ok",requested_group="quality",served_group="quality"}',
        'konstruct_llm_requests_total{outcome="ok",requested_group="quality",served_group="fast"}',
        'konstruct_llm_requests_total{outcome="providers_failed",requested_group="fast",served_group="_none"}',
        'konstruct_llm_requests_total{outcome="overloaded",requested_group="_unknown",served_group="_none"}',
        'konstruct_llm_fallbacks_total{from_group="quality",reason="cooldown",to_group="fast"}',
        'konstruct_llm_request_duration_seconds_count{requested_group="quality",served_group="fast"}',
        "konstruct_llm_overhead_seconds_count",
        f'konstruct_llm_attempts_total{{deployment="{ANTHROPIC}",outcome="rate_limited"}}',
        'konstruct_llm_tokens_total{direction="completion",group="fast"}',
        'konstruct_llm_cost_usd_total{group="quality"}',
        f'konstruct_llm_deployment_cooling{{deployment="{OLLAMA}"}}',
        "konstruct_llm_in_flight",
    ):
        assert samples[name] == 0
    # What cannot occur is not there.
    assert not any('requested_group="fast",served_group="quality"' in name for name in samples)


async def test_metrics_agree_exactly_with_what_the_stubs_counted(world: World) -> None:
    chance = random.Random(7)
    for stub in world.providers.values():
        stub.script.extend(
            chance.choice([answer(), answer(delay_s=0.01), status(500), status(400), cut(), garbage()])
            for _ in range(400)
        )
    before = set(await world.pool.metrics())
    groups = [chance.choice(["quality", "fast"]) for _ in range(120)]
    bounded = asyncio.Semaphore(32)

    async def ask(group: str) -> dict[str, Any]:
        async with bounded:
            response = await world.pool.ask(group, fallback=chance.choice(["allow", "refuse"]))
            return {"group": group, "status": response.status_code, **response.json()}

    answers = await asyncio.gather(*(ask(group) for group in groups))
    samples = await world.pool.metrics()
    assert set(samples) == before, "a series appeared that was not made at the start"

    told: Counter[tuple[str, str]] = Counter()
    for reply in answers:
        told.update((attempt["deployment"], attempt["outcome"]) for attempt in reply["attempts"])
    for name, stub in world.providers.items():
        assert total(samples, "konstruct_llm_attempts_total", deployment=name) == stub.count
    for (deployment, outcome), count in told.items():
        labels = {"deployment": deployment, "outcome": outcome}
        assert total(samples, "konstruct_llm_attempts_total", **labels) == count

    requests = "konstruct_llm_requests_total"
    assert total(samples, requests) == 120
    for group in ("quality", "fast"):
        assert total(samples, requests, requested_group=group) == groups.count(group)
    served = Counter((r["group"], r["served_group"]) for r in answers if r["status"] == 200)
    for (group, by), count in served.items():
        labels = {"requested_group": str(group), "served_group": str(by), "outcome": "ok"}
        assert total(samples, requests, **labels) == count
        del labels["outcome"]
        assert total(samples, "konstruct_llm_request_duration_seconds_count", **labels) == count
    codes = Counter(r["code"] for r in answers if r["status"] != 200)
    for code, count in codes.items():
        assert total(samples, requests, outcome=str(code)) == count
    fell = sum(1 for r in answers if any(a["group"] != r["group"] for a in r["attempts"]))
    assert total(samples, "konstruct_llm_fallbacks_total", from_group="quality", to_group="fast") == fell
    by_group = Counter(r["served_group"] for r in answers if r["status"] == 200)
    for group, count in by_group.items():
        tokens = "konstruct_llm_tokens_total"
        assert total(samples, tokens, group=str(group), direction="prompt") == count * PROMPT_TOKENS
        assert total(samples, tokens, group=str(group), direction="completion") == count * COMPLETION_TOKENS
    costs = [r["cost_usd"] for r in answers if r.get("cost_usd") is not None]
    assert total(samples, "konstruct_llm_cost_usd_total") == pytest.approx(sum(costs))
    assert samples["konstruct_llm_overhead_seconds_count"] == 120
    assert samples["konstruct_llm_in_flight"] == 0


async def test_overhead_is_what_providers_did_not_take(world: World) -> None:
    world.ollama.default = answer(delay_s=0.3)
    await world.pool.reply("fast")
    samples = await world.pool.metrics()
    duration = total(samples, "konstruct_llm_request_duration_seconds_sum")
    assert duration > 0.3
    assert 0 < samples["konstruct_llm_overhead_seconds_sum"] < 0.15


async def test_cooling_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_world(monkeypatch) as world:
        world.anthropic.default = status(429)
        await world.pool.reply("quality")
        samples = await world.pool.metrics()
        cooling = {
            name: samples[f'konstruct_llm_deployment_cooling{{deployment="{name}"}}']
            for name in world.providers
        }
        assert cooling == {ANTHROPIC: 1, OPENAI: 0, OLLAMA: 0}


async def test_users_cannot_make_labels(world: World) -> None:
    before = set(await world.pool.metrics())
    for number in range(20):
        await world.pool.ask(f"made-up-{number}", tenant_id=f"tenant-{number}")
        await world.pool.client.post("/complete", content=b"{")
        await world.pool.client.get(f"/made-up-{number}")
    samples = await world.pool.metrics()
    assert set(samples) == before
    refused = "konstruct_llm_requests_total"
    assert total(samples, refused, requested_group="_unknown", outcome="unknown_group") == 20
    assert total(samples, refused, requested_group="_unknown", outcome="invalid_request") == 20
