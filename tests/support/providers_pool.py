"""A running llm-pool for tests: the real application on a real socket, between stub providers."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
import yaml
from fastapi import FastAPI

from llm_pool.main import PoolServer, create_app
from shared.config import load_settings
from shared.contract import CompletionResponse, Problem
from tests.support.metrics import Samples, read
from tests.support.providers import StubProvider

ANTHROPIC_KEY = "sk-ant-canary-5e0c1f"
"""Anthropic's key in tests; must never be seen anywhere."""

OPENAI_KEY = "sk-oai-canary-77ab3d"
"""OpenAI's key in tests; must never be seen anywhere."""

SHORT_COOLDOWN_S = 0.4
"""A cooldown that a test can wait out."""

CANARIES = (ANTHROPIC_KEY, OPENAI_KEY)
"""All keys in tests."""

ANTHROPIC = "anthropic/claude-sonnet-4-20250514"
"""Name of the Anthropic deployment."""

OPENAI = "openai/gpt-4o"
"""Name of the OpenAI deployment."""

OLLAMA = "ollama_chat/qwen3:8b"
"""Name of the Ollama deployment."""

_FOREIGN = re.compile(r"^(KONSTRUCT_|ANTHROPIC_|OPENAI_|OLLAMA_|LITELLM_)|_proxy$", re.IGNORECASE)
"""Variables of the developer's shell that would change what the pool does."""


@dataclass
class Pool:
    """A running pool and a client of it."""

    app: FastAPI
    server: PoolServer
    client: httpx.AsyncClient

    async def ask(self, model: str = "quality", text: str = "Hi", **fields: Any) -> httpx.Response:
        """POST /complete."""
        body = {
            "model": model,
            "messages": [{"role": "user", "content": text}],
            "tenant_id": "acme",
            **fields,
        }
        return await self.client.post("/complete", json=body)

    async def reply(self, model: str = "quality", text: str = "Hi", **fields: Any) -> CompletionResponse:
        """POST /complete and read the envelope."""
        response = await self.ask(model, text, **fields)
        assert response.status_code == 200, response.text
        return CompletionResponse.model_validate_json(response.content, strict=False)

    async def problem(self, model: str = "quality", **fields: Any) -> Problem:
        """POST /complete and read the error."""
        response = await self.ask(model, **fields)
        assert response.headers["content-type"] == "application/problem+json", response.text
        return Problem.model_validate_json(response.content)

    async def health(self) -> dict[str, Any]:
        """Return the groups of /health, by name."""
        response = await self.client.get("/health")
        assert response.status_code == 200
        return {group["name"]: group for group in response.json()["groups"]}

    async def metrics(self) -> Samples:
        """Return the samples of /metrics."""
        return read((await self.client.get("/metrics")).text)


@dataclass
class World:
    """Three stub providers and the pool between them."""

    anthropic: StubProvider
    openai: StubProvider
    ollama: StubProvider
    pool: Pool

    @property
    def providers(self) -> dict[str, StubProvider]:
        """The stubs, by the names of their deployments."""
        return {ANTHROPIC: self.anthropic, OPENAI: self.openai, OLLAMA: self.ollama}


def clean_environment(patch: pytest.MonkeyPatch) -> None:
    """Remove what the developer's shell would tell the pool."""
    for name in list(os.environ):
        if _FOREIGN.search(name):
            patch.delenv(name)


@asynccontextmanager
async def open_world(
    patch: pytest.MonkeyPatch, *, through_litellm: bool = False, **settings: Any
) -> AsyncIterator[World]:
    """Start the three stubs and a pool with the default groups; `settings` by their field names.

    With `through_litellm` the same groups come from a file, and every call is LiteLLM's own.
    """
    clean_environment(patch)
    async with AsyncExitStack() as stack:
        anthropic = await stack.enter_async_context(StubProvider("anthropic", "claude-sonnet-4-20250514"))
        openai = await stack.enter_async_context(StubProvider("openai", "gpt-4o-2024-08-06"))
        ollama = await stack.enter_async_context(StubProvider("ollama", "qwen3:8b"))
        patch.setenv("ANTHROPIC_API_KEY", ANTHROPIC_KEY)
        patch.setenv("OPENAI_API_KEY", OPENAI_KEY)
        patch.setenv("OLLAMA_BASE_URL", ollama.root)
        if through_litellm:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            bases = {ANTHROPIC: anthropic.root, OPENAI: f"{openai.root}/v1", OLLAMA: ollama.root}
            settings = {"llm_pool_config": _config_for_litellm(folder, bases), **settings}
        else:
            bases = {"anthropic_base_url": anthropic.root, "openai_base_url": f"{openai.root}/v1"}
            settings = {**bases, **settings}
        pool = await stack.enter_async_context(running_pool(patch, **settings))
        yield World(anthropic, openai, ollama, pool)


def _config_for_litellm(folder: Path, bases: dict[str, str]) -> Path:
    """Write the default groups in LiteLLM's format, with a parameter that only LiteLLM understands."""
    keys = {ANTHROPIC: "os.environ/ANTHROPIC_API_KEY", OPENAI: "os.environ/OPENAI_API_KEY"}
    model_list = [
        {
            "model_name": "fast" if model == OLLAMA else "quality",
            "litellm_params": {
                "model": model,
                "api_base": base,
                "order": order,
                "drop_params": True,
                **({"api_key": keys[model]} if model in keys else {}),
            },
        }
        for order, (model, base) in enumerate(bases.items(), start=1)
    ]
    path = folder / "litellm.yaml"
    fallbacks = {"fallbacks": [{"quality": ["fast"]}]}
    path.write_text(yaml.safe_dump({"model_list": model_list, "router_settings": fallbacks}))
    return path


@asynccontextmanager
async def running_pool(patch: pytest.MonkeyPatch, **settings: Any) -> AsyncIterator[Pool]:
    """Serve the pool from a thread of its own, on a free port."""
    for name, value in settings.items():
        patch.setenv(f"KONSTRUCT_{name.upper()}", str(value))
    app = create_app(load_settings())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        server = PoolServer(uvicorn.Config(app, access_log=False, log_config=None), app)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            await until(lambda: server.started or not thread.is_alive())
            assert server.started, "the pool did not start"
            async with httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False
            ) as client:
                yield Pool(app, server, client)
        finally:
            server.should_exit = True
            await asyncio.to_thread(thread.join, 30)
            assert not thread.is_alive(), "the pool did not stop"


async def until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    """Poll until `condition` holds; fail after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.005)


async def cooled(world: World, group: str = "quality") -> None:
    """Wait until nothing of a group cools."""
    deadline = asyncio.get_running_loop().time() + 10
    while (await world.pool.health())[group]["cooling"]:
        assert asyncio.get_running_loop().time() < deadline
