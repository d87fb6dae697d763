"""All that a message meets from its sender to the providers, as processes, for tests of traces and logs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from konstruct_cli.stack.process import ManagedProcess, claim_port
from konstruct_cli.stack.server import answers
from tests.support.providers import StubProvider
from tests.support.providers_pool import ANTHROPIC_KEY, OPENAI_KEY
from tests.support.stack_command import environment, konstruct
from tests.support.stack_provider import provider_in_thread
from tests.support.worker import PAYLOAD_KEY, Cell

POOL_TOKEN = "canary-pool-token-91c2"
"""Token between worker and pool."""


@dataclass
class Way:
    """A message's way, from sender to providers."""

    cell: Cell
    pool: ManagedProcess
    pool_url: str
    anthropic: StubProvider
    openai: StubProvider
    ollama: StubProvider
    settings: dict[str, str]

    def start_worker(self, **more: str) -> ManagedProcess:
        """Start a worker that asks the pool."""
        pool = {"KONSTRUCT_LLM_POOL_URL": self.pool_url, "KONSTRUCT_LLM_POOL_TOKEN": POOL_TOKEN}
        return self.cell.start_worker(**{**pool, **self.settings, **more})

    def send(self, text: str) -> dict[str, Any]:
        """Send a message with ``konstruct send`` and return the reply."""
        there = {
            "KONSTRUCT_DATABASE_URL": self.cell.database.service_url,
            "KONSTRUCT_REDIS_URL": self.cell.redis_url,
            "KONSTRUCT_PAYLOAD_KEY": PAYLOAD_KEY,
            **self.settings,
        }
        arguments = ("send", "--json", "--tenant", "acme", "--agent", "ada", "--thread", "talk", text)
        done = konstruct(*arguments, cwd=self.cell.folder, env=environment(**there))
        assert done.out, done.err
        reply: dict[str, Any] = json.loads(done.out)
        return reply

    def logs(self) -> str:
        """Everything that pool and workers wrote."""
        return self.pool.log.read_text() + self.cell.logs()


@contextmanager
def way(cell: Cell, **settings: str) -> Iterator[Way]:
    """Start three providers and a pool; `settings` are those of pool, workers and senders."""
    with (
        provider_in_thread("anthropic", "claude-sonnet-4-20250514") as anthropic,
        provider_in_thread("openai", "gpt-4o-2024-08-06") as openai,
        provider_in_thread("ollama", "qwen3:8b") as ollama,
    ):
        port = claim_port("llm-pool", None)
        own = {
            "PATH": os.environ["PATH"],
            "KONSTRUCT_LLM_POOL_LISTEN": f"127.0.0.1:{port}",
            "KONSTRUCT_LLM_POOL_TOKEN": POOL_TOKEN,
            "ANTHROPIC_API_KEY": ANTHROPIC_KEY,
            "OPENAI_API_KEY": OPENAI_KEY,
            "OLLAMA_BASE_URL": ollama.root,
            "KONSTRUCT_ANTHROPIC_BASE_URL": anthropic.root,
            "KONSTRUCT_OPENAI_BASE_URL": f"{openai.root}/v1",
        }
        command = [sys.executable, "-c", "from llm_pool.main import run; run()"]
        url = f"http://127.0.0.1:{port}"
        with ManagedProcess(
            "llm-pool", command, log=cell.folder / "pool.log", env={**own, **settings}
        ) as pool:
            pool.wait_ready(lambda: answers(f"{url}/health"), 90)
            yield Way(cell, pool, url, anthropic, openai, ollama, settings)
