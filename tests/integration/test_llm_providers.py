"""LLM-02: provider configuration: twelve tests of what is served from which settings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.contract import FallbackReason
from tests.support.providers import ANSWER, COMPLETION_TOKENS, PROMPT_TOKENS, status
from tests.support.providers_pool import (
    ANTHROPIC,
    ANTHROPIC_KEY,
    OLLAMA,
    OPENAI,
    OPENAI_KEY,
    World,
    open_world,
    running_pool,
)


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    async with open_world(monkeypatch) as opened:
        yield opened


async def test_default_groups_are_those_of_the_seed(world: World) -> None:
    health = await world.pool.health()
    assert list(health) == ["quality", "fast"]
    assert health["quality"]["deployments"] == [ANTHROPIC, OPENAI]
    assert health["quality"]["falls_back_to"] == ["fast"]
    assert health["fast"]["deployments"] == [OLLAMA]
    assert health["fast"]["falls_back_to"] == []
    assert all(group["configured"] and not group["missing"] for group in health.values())


async def test_anthropic_is_asked_in_its_own_protocol(world: World) -> None:
    reply = await world.pool.reply(
        "quality",
        messages=[
            {"role": "system", "content": "You are Ada."},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello."},
            {"role": "user", "content": "Who are you?"},
        ],
        max_tokens=77,
        temperature=0.25,
    )
    assert world.anthropic.paths == ["/v1/messages"]
    headers, body = world.anthropic.headers[0], world.anthropic.requests[0]
    assert headers["x-api-key"] == ANTHROPIC_KEY
    assert headers["anthropic-version"]
    assert headers["content-type"] == "application/json"
    assert body["model"] == "claude-sonnet-4-20250514"
    assert (body["max_tokens"], body["temperature"]) == (77, 0.25)
    assert "You are Ada." in str(body["system"])
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert reply.content == ANSWER
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (PROMPT_TOKENS, COMPLETION_TOKENS)


async def test_openai_is_asked_in_its_own_protocol(world: World) -> None:
    await world.anthropic.down()
    reply = await world.pool.reply("quality", max_tokens=77, temperature=0.25)
    assert world.openai.paths == ["/v1/chat/completions"]
    assert world.openai.headers[0]["authorization"] == f"Bearer {OPENAI_KEY}"
    body = world.openai.requests[0]
    assert body["model"] == "gpt-4o"
    assert body["messages"] == [{"role": "user", "content": "Hi"}]
    assert (body["max_tokens"], body["temperature"]) == (77, 0.25)
    assert not body.get("stream")
    assert reply.content == ANSWER
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (PROMPT_TOKENS, COMPLETION_TOKENS)


async def test_ollama_is_asked_in_its_own_protocol(world: World) -> None:
    reply = await world.pool.reply("fast", max_tokens=77, temperature=0.25)
    assert world.ollama.paths == ["/api/chat"]
    assert "authorization" not in world.ollama.headers[0]
    body = world.ollama.requests[0]
    assert body["model"] == "qwen3:8b"
    assert [(m["role"], m["content"]) for m in body["messages"]] == [("user", "Hi")]
    assert (body["options"]["num_predict"], body["options"]["temperature"]) == (77, 0.25)
    assert body["stream"] is False
    assert reply.content == ANSWER
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (PROMPT_TOKENS, COMPLETION_TOKENS)


async def test_models_can_be_overridden(monkeypatch: pytest.MonkeyPatch) -> None:
    models: dict[str, Any] = {
        "anthropic_model": "claude-next",
        "openai_model": "gpt-next",
        "ollama_model": "llama-next",
    }
    async with open_world(monkeypatch, **models) as world:
        health = await world.pool.health()
        assert health["quality"]["deployments"] == ["anthropic/claude-next", "openai/gpt-next"]
        assert health["fast"]["deployments"] == ["ollama_chat/llama-next"]
        world.anthropic.default = world.openai.default = status(500)
        await world.pool.reply("quality")
        assert [stub.requests[0]["model"] for stub in world.providers.values()] == list(models.values())


async def test_price_is_told_when_known_and_null_when_not(world: World) -> None:
    claude = await world.pool.reply("quality")
    # LiteLLM's price list: 3 and 15 dollars a million tokens.
    assert claude.cost_usd == pytest.approx(PROMPT_TOKENS * 3e-6 + COMPLETION_TOKENS * 15e-6)
    assert (await world.pool.reply("fast")).cost_usd is None


async def test_group_without_a_key_is_reported_and_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_world(monkeypatch) as world:
        monkeypatch.delenv("ANTHROPIC_API_KEY")
        monkeypatch.delenv("OPENAI_API_KEY")
        async with running_pool(monkeypatch) as pool:
            health = await pool.health()
            assert health["quality"]["configured"] is False
            assert health["quality"]["deployments"] == []
            assert health["quality"]["missing"] == ["ANTHROPIC_API_KEY", "OPENAI_API_KEY"]
            reply = await pool.reply("quality")
            assert (reply.served_group, reply.degraded) == ("fast", True)
            assert reply.fallback_reason is FallbackReason.NOT_CONFIGURED
            assert [a.deployment for a in reply.attempts] == [OLLAMA]
            problem = await pool.problem("quality", fallback="refuse")
            assert (problem.status, problem.fallback_reason) == (503, FallbackReason.NOT_CONFIGURED)
    assert world.anthropic.count == world.openai.count == 0


async def test_one_key_of_two_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_world(monkeypatch) as world:
        monkeypatch.delenv("ANTHROPIC_API_KEY")
        async with running_pool(monkeypatch) as pool:
            quality = (await pool.health())["quality"]
            assert (quality["configured"], quality["deployments"]) == (True, [OPENAI])
            assert quality["missing"] == ["ANTHROPIC_API_KEY"]
            reply = await pool.reply("quality")
            assert (reply.degraded, reply.attempts[0].deployment) == (False, OPENAI)
    assert world.openai.count == 1


async def test_nothing_configured_is_alive_but_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_world(monkeypatch) as world:
        assert (await world.pool.client.get("/readyz")).status_code == 200
        for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "OLLAMA_BASE_URL"):
            monkeypatch.delenv(name)
        async with running_pool(monkeypatch) as pool:
            health = await pool.health()
            assert [group["configured"] for group in health.values()] == [False, False]
            assert health["fast"]["missing"] == ["OLLAMA_BASE_URL"]
            assert (await pool.client.get("/readyz")).status_code == 503
            problem = await pool.problem("quality")
            assert (problem.status, problem.fallback_reason) == (503, FallbackReason.NOT_CONFIGURED)
            assert problem.attempts == []


async def test_litellm_file_is_served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with open_world(monkeypatch) as world:
        monkeypatch.setenv("WORK_KEY", OPENAI_KEY)
        path = write_config(
            tmp_path,
            {
                "model_list": [
                    {
                        "model_name": "smart",
                        "litellm_params": {
                            "model": "openai/gpt-4o",
                            "api_base": f"{world.openai.root}/v1",
                            "api_key": "os.environ/WORK_KEY",
                            "temperature": 0.5,
                        },
                    },
                    {
                        "model_name": "cheap",
                        "litellm_params": {
                            "model": "ollama_chat/llama3",
                            "api_base": world.ollama.root,
                            "input_cost_per_token": 0.001,
                            "output_cost_per_token": 0.002,
                        },
                    },
                ],
                "router_settings": {"fallbacks": [{"smart": ["cheap"]}], "num_retries": 3},
            },
        )
        async with running_pool(monkeypatch, llm_pool_config=path) as pool:
            assert list(await pool.health()) == ["smart", "cheap"]
            assert (await pool.reply("smart")).model == "gpt-4o-2024-08-06"
            assert world.openai.headers[-1]["authorization"] == f"Bearer {OPENAI_KEY}"
            assert world.openai.requests[-1]["temperature"] == 0.5
            world.openai.default = status(500)
            asked = world.openai.count
            reply = await pool.reply("smart", temperature=0.1)
            assert (reply.served_group, reply.degraded) == ("cheap", True)
            # num_retries has no effect: each deployment once.
            assert world.openai.count == asked + 1
            assert world.openai.requests[-1]["temperature"] == 0.1
            assert reply.cost_usd == pytest.approx(PROMPT_TOKENS * 0.001 + COMPLETION_TOKENS * 0.002)
            assert (await pool.problem("quality")).status == 404


async def test_fallbacks_in_litellm_settings_are_taken_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with open_world(monkeypatch) as world:
        path = write_config(
            tmp_path,
            {
                "model_list": [
                    deployment("a", "openai/gpt-4o", f"{world.openai.root}/v1"),
                    deployment("b", "anthropic/claude-x", world.anthropic.root),
                    deployment("c", "ollama_chat/llama3", world.ollama.root),
                ],
                "litellm_settings": {
                    "fallbacks": [{"a": ["b"]}, {"b": ["c"]}],
                    "context_window_fallbacks": [{"a": ["c"]}],
                    "drop_params": True,
                },
            },
        )
        async with running_pool(monkeypatch, llm_pool_config=path) as pool:
            # A fallback's own fallbacks are followed.
            world.openai.default = world.anthropic.default = status(500)
            reply = await pool.reply("a")
            assert [a.group for a in reply.attempts] == ["a", "b", "c"]
            # A prompt that is too long has fallbacks of its own.
            world.openai.default = status(400, '{"error": {"code": "context_length_exceeded"}}')
            reply = await pool.reply("a")
            assert [a.group for a in reply.attempts] == ["a", "c"]
            assert reply.fallback_reason is FallbackReason.CONTEXT_WINDOW


async def test_variable_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with open_world(monkeypatch) as world:
        entry = deployment("smart", "openai/gpt-4o", f"{world.openai.root}/v1")
        entry["litellm_params"]["api_key"] = "os.environ/NOBODY_SET_THIS"
        path = write_config(tmp_path, {"model_list": [entry]})
        async with running_pool(monkeypatch, llm_pool_config=path) as pool:
            smart = (await pool.health())["smart"]
            assert (smart["configured"], smart["missing"]) == (False, ["NOBODY_SET_THIS"])
            assert (await pool.problem("smart")).fallback_reason is FallbackReason.NOT_CONFIGURED
    assert world.openai.count == 0


def deployment(group: str, model: str, base: str) -> dict[str, Any]:
    """One entry of a model_list."""
    params = {"model": model, "api_base": base, "api_key": OPENAI_KEY}
    return {"model_name": group, "litellm_params": params}


def write_config(folder: Path, document: object) -> Path:
    """Write a LiteLLM configuration file."""
    path = folder / "litellm.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path
