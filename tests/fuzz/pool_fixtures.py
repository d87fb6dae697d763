"""A real llm-pool for requests that nobody thought of: the process, between providers that always answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import pytest

from tests.support.pool_process import command, free_port, running, wait_ready
from tests.support.providers_pool import clean_environment
from tests.support.stack_provider import provider_in_thread

TOKEN = "a-token-for-tests"
"""What the pool asks for."""

MAX_BODY = 65_536
"""Most bytes that it takes."""


@dataclass(frozen=True)
class Address:
    """Where a pool listens."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def pool_process(**environ: str) -> Iterator[Address]:
    """Run a pool whose group `fast` is answered at once, and `quality` by it."""
    address = Address(free_port())
    with (
        pytest.MonkeyPatch.context() as patch,
        provider_in_thread("ollama", "qwen3:8b") as ollama,
    ):
        clean_environment(patch)
        limit = {"KONSTRUCT_LLM_POOL_MAX_BODY_BYTES": str(MAX_BODY)}
        with running(command(), address.port, OLLAMA_BASE_URL=ollama.root, **limit, **environ) as process:
            asyncio.run(_ready(address, process))
            yield address
            assert process.poll() is None, "the pool ended"


async def _ready(address: Address, process: object) -> None:
    async with httpx.AsyncClient(base_url=address.url, trust_env=False) as client:
        await wait_ready(client, process)  # type: ignore[arg-type]
