"""The metrics: what they count is what the stubs counted, and their labels come from the configuration."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from llm_pool import __version__
from tests.support.metrics import Samples, total
from tests.support.providers import (
    COMPLETION_TOKENS,
    PROMPT_TOKENS,
    StubProvider,
    answer,
    cut,
    garbage,
    hang,
    status,
)
from tests.support.providers_pool import (
    ANTHROPIC,
    OLLAMA,
    OPENAI,
    World,
    clean_environment,
    open_world,
    running_pool,
    until,
)


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    # No cooldowns: every request walks the whole way, so that the sums can be foretold.
    settings: dict[str, Any] = {"llm_pool_allowed_fails": 10_000, "llm_pool_cooldown_s": 0.0001}
    async with open_world(monkeypatch, **settings) as opened:
        yield opened


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
        f'konstruct_llm_attempt_duration_seconds_count{{deployment="{OPENAI}"}}',
        f'konstruct_llm_deployment_cooling{{deployment="{OLLAMA}"}}',
        "konstruct_llm_in_flight",
    ):
        assert samples[name] == 0
    assert samples['konstruct_llm_group_deployments{group="quality"}'] == 2
    assert samples["konstruct_llm_in_flight_limit"] == 256
    assert samples[f'konstruct_build_info{{component="llm-pool",version="{__version__}"}}'] == 1
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
        duration = "konstruct_llm_attempt_duration_seconds_count"
        assert total(samples, duration, deployment=name) == stub.count
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


async def test_a_call_that_its_client_left_is_counted_and_not_timed(world: World) -> None:
    world.ollama.default = hang()
    asked = asyncio.create_task(world.pool.ask("fast"))
    await until(lambda: world.ollama.count == 1)
    assert (await world.pool.metrics())["konstruct_llm_in_flight"] == 1
    asked.cancel()
    samples: Samples = {}
    async with asyncio.timeout(10):
        while not total(samples, "konstruct_llm_requests_total", outcome="cancelled"):
            samples = await world.pool.metrics()
    assert total(samples, "konstruct_llm_attempts_total", deployment=OLLAMA, outcome="cancelled") == 1
    assert total(samples, "konstruct_llm_attempt_duration_seconds_count") == 0
    assert total(samples, "konstruct_llm_request_duration_seconds_count", served_group="_none") == 1


async def test_a_fallback_has_the_reason_of_the_group_that_it_stands_in_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The second substitute is asked because of the group, whatever the first one failed for."""
    async with (
        StubProvider("openai", "one") as first,
        StubProvider("openai", "two") as second,
        StubProvider("openai", "three") as third,
    ):
        first.default, second.default = status(429), status(400)
        models = [
            {
                "model_name": name,
                "litellm_params": {"model": f"openai/{name}", "api_base": f"{stub.root}/v1", "api_key": "k"},
            }
            for name, stub in (("one", first), ("two", second), ("three", third))
        ]
        path = tmp_path / "litellm.yaml"
        path.write_text(
            yaml.safe_dump(
                {"model_list": models, "router_settings": {"fallbacks": [{"one": ["two", "three"]}]}}
            )
        )
        clean_environment(monkeypatch)
        async with running_pool(monkeypatch, llm_pool_config=path) as pool:
            assert (await pool.reply("one")).served_group == "three"
            counted = {
                series: value
                for series, value in (await pool.metrics()).items()
                if series.startswith("konstruct_llm_fallbacks_total") and value
            }
    assert counted == {
        f'konstruct_llm_fallbacks_total{{from_group="one",reason="rate_limited",to_group="{to}"}}': 1
        for to in ("two", "three")
    }


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
