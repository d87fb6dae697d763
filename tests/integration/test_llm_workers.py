"""Several processes of the pool behind one port: one pool to its callers, and to whoever scrapes it."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest

from tests.support.metrics import Samples, read, total
from tests.support.pool_process import START_TIMEOUT_S, command, free_port, running, wait_ready
from tests.support.providers import StubProvider, answer, status
from tests.support.providers_pool import ANTHROPIC, OLLAMA, OPENAI, clean_environment, open_world, until

WORKERS = 2
"""Processes in these tests."""

NAMES = (ANTHROPIC, OLLAMA)
"""Deployments in these tests."""


@dataclass
class Processes:
    """A pool of several processes, between stub providers, and a connection to each of them."""

    parent: subprocess.Popen[bytes]
    port: int
    providers: dict[str, StubProvider]
    clients: dict[int, httpx.AsyncClient] = field(default_factory=dict)
    """One client for each process, by its id."""

    @property
    def folder(self) -> Path:
        """Where they share their values."""
        child = psutil.Process(self.parent.pid).children()[0]
        return Path(child.environ()["PROMETHEUS_MULTIPROC_DIR"])

    async def meet(self, stack: AsyncExitStack) -> None:
        """Connect until there is a connection to each process, and none to those that are gone."""
        alive = {child.pid for child in psutil.Process(self.parent.pid).children()}
        self.clients = {pid: client for pid, client in self.clients.items() if pid in alive}
        async with asyncio.timeout(START_TIMEOUT_S):
            while len(self.clients) < WORKERS:
                client = httpx.AsyncClient(
                    base_url=f"http://127.0.0.1:{self.port}",
                    limits=httpx.Limits(max_connections=1, keepalive_expiry=None),
                    timeout=30,
                    trust_env=False,
                )
                await stack.enter_async_context(client)
                response = await client.get("/health")
                self.clients[self._owner(response)] = client

    def _owner(self, response: httpx.Response) -> int:
        """Say which process has the other end of a response's connection."""
        ours = response.extensions["network_stream"].get_extra_info("client_addr")[1]
        for child in psutil.Process(self.parent.pid).children():
            if any(link.raddr[1:] == (ours,) for link in child.net_connections("tcp")):
                return child.pid
        raise AssertionError("nobody has this connection")

    async def ask(self, client: httpx.AsyncClient, model: str = "quality") -> httpx.Response:
        body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "tenant_id": "acme"}
        return await client.post("/complete", json=body)

    async def load(self, count: int) -> None:
        """Ask every process, 30 at a time in all."""
        async with AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(
                    httpx.AsyncClient(
                        base_url=f"http://127.0.0.1:{self.port}",
                        limits=httpx.Limits(max_connections=1),
                        timeout=30,
                        trust_env=False,
                    )
                )
                for _ in range(30 - WORKERS)
            ] + list(self.clients.values())
            numbers = iter(range(count))

            async def work(client: httpx.AsyncClient) -> None:
                for number in numbers:
                    await self.ask(client, "fast" if number % 3 else "quality")

            await asyncio.gather(*map(work, clients))

    async def scrapes(self) -> list[Samples]:
        """Ask each process for the metrics."""
        return [read((await client.get("/metrics")).text) for client in self.clients.values()]

    async def metrics(self) -> Samples:
        """Ask each process for the metrics; all say the same."""
        first, *others = await self.scrapes()
        assert all(other == first for other in others)
        return first


@asynccontextmanager
async def open_processes(patch: pytest.MonkeyPatch) -> AsyncIterator[Processes]:
    """Start a pool of several processes with the group ``quality`` of one provider, and ``fast``."""
    clean_environment(patch)
    port = free_port()
    async with AsyncExitStack() as stack:
        anthropic = await stack.enter_async_context(StubProvider("anthropic", "claude-sonnet-4-20250514"))
        ollama = await stack.enter_async_context(StubProvider("ollama", "qwen3:8b"))
        environ = {
            "KONSTRUCT_LLM_POOL_WORKERS": str(WORKERS),
            "ANTHROPIC_API_KEY": "k",
            "KONSTRUCT_ANTHROPIC_BASE_URL": anthropic.root,
            "OLLAMA_BASE_URL": ollama.root,
        }
        parent = stack.enter_context(running(command(), port, **environ))
        made = Processes(parent, port, {ANTHROPIC: anthropic, OLLAMA: ollama})
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            await wait_ready(client, parent)
        await made.meet(stack)
        yield made


def agree(samples: Samples, pool: Processes, requests: int) -> None:
    """Check that the sums are what the stubs counted."""
    for name, stub in pool.providers.items():
        for metric in ("konstruct_llm_attempts_total", "konstruct_llm_attempt_duration_seconds_count"):
            assert total(samples, metric, deployment=name) == stub.count
    assert total(samples, "konstruct_llm_requests_total") == requests
    assert total(samples, "konstruct_llm_request_duration_seconds_count") == requests
    assert total(samples, "konstruct_llm_request_duration_seconds_bucket", le="+Inf") == requests
    assert samples["konstruct_llm_overhead_seconds_count"] == requests
    assert samples["konstruct_llm_in_flight"] == 0
    assert samples["konstruct_llm_in_flight_limit"] == WORKERS * 256


def cooling(samples: Samples) -> dict[str, float]:
    """Say what cools down."""
    return {name: samples[f'konstruct_llm_deployment_cooling{{deployment="{name}"}}'] for name in NAMES}


async def shows(client: httpx.AsyncClient, wanted: Callable[[Samples], bool], within_s: float) -> None:
    """Poll one process until its metrics are as wanted."""
    deadline = time.monotonic() + within_s
    while not wanted(read((await client.get("/metrics")).text)):
        assert time.monotonic() < deadline, "the metrics did not become as they should be"
        await asyncio.sleep(0.05)


@pytest.mark.timeout(600)  # it starts the pool, which takes seconds of processor time, once for each process
async def test_one_pool_to_whoever_asks_and_scrapes(monkeypatch: pytest.MonkeyPatch) -> None:
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(open_processes(monkeypatch))
        before = await pool.metrics()
        agree(before, pool, 0)
        await sums_are_what_the_stubs_counted(pool)
        await what_cools_in_one_is_told_by_all(pool)
        await a_dead_process_is_replaced_and_what_it_counted_stays(pool, stack)
        samples = await pool.metrics()
        assert samples.keys() == before.keys()
        await sigterm_finishes_what_every_process_has_under_way(pool)
    async with open_world(monkeypatch) as world:
        alone = {series for series in await world.pool.metrics() if OPENAI not in series}
        assert alone == samples.keys(), "one process has other series than several"


async def sums_are_what_the_stubs_counted(pool: Processes) -> None:
    chance = random.Random(7)
    for stub in pool.providers.values():
        stub.script.extend(chance.choice([answer(), status(400), status(422)]) for _ in range(400))
    await pool.load(300)
    agree(await pool.metrics(), pool, 300)
    for stub in pool.providers.values():
        stub.script.clear()


async def what_cools_in_one_is_told_by_all(pool: Processes) -> None:
    pool.providers[ANTHROPIC].script.append(status(429, retry_after="2"))
    assert cooling(await pool.metrics()) == {ANTHROPIC: 0, OLLAMA: 0}
    first, second = pool.clients.values()
    assert (await pool.ask(first)).json()["fallback_reason"] == "rate_limited"
    assert cooling(await pool.metrics()) == {ANTHROPIC: 1, OLLAMA: 0}
    assert (await pool.ask(second)).json()["served_group"] == "quality"  # cooldowns are each process's own
    await shows(first, lambda samples: not cooling(samples)[ANTHROPIC], 10)
    agree(await pool.metrics(), pool, 302)


async def a_dead_process_is_replaced_and_what_it_counted_stays(
    pool: Processes, stack: AsyncExitStack
) -> None:
    files = set(pool.folder.iterdir())
    (victim, _), (_, left) = pool.clients.items()
    start = "konstruct_start_time_seconds"
    began = (await pool.metrics())[start]
    os.kill(victim, signal.SIGKILL)
    limit = "konstruct_llm_in_flight_limit"
    await shows(left, lambda samples: samples[limit] == 256, 20)  # a dead one may take nothing
    await shows(left, lambda samples: samples[limit] == WORKERS * 256, START_TIMEOUT_S)
    await pool.meet(stack)
    assert victim not in pool.clients
    assert (await pool.metrics())[start] == began, "the counters did not begin again"
    agree(await pool.metrics(), pool, 302)
    await pool.load(150)
    agree(await pool.metrics(), pool, 452)
    assert set(pool.folder.iterdir()) == files, "there is a file for each process that there ever was"


async def sigterm_finishes_what_every_process_has_under_way(pool: Processes) -> None:
    folder, ollama = pool.folder, pool.providers[OLLAMA]
    ollama.default, before = answer("after all", delay_s=2.0), ollama.count
    asked = [asyncio.create_task(pool.ask(client, "fast")) for client in pool.clients.values()]
    await until(lambda: ollama.count == before + WORKERS)
    pool.parent.send_signal(signal.SIGTERM)
    await until(lambda: not listens(pool.port))
    replies = [await task for task in asked]
    assert [reply.json()["content"] for reply in replies] == ["after all"] * WORKERS
    await until(lambda: pool.parent.poll() is not None)
    assert pool.parent.returncode == 0
    assert not folder.exists()


@pytest.mark.timeout(300)
async def test_no_process_outlives_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    clean_environment(monkeypatch)
    port = free_port()
    environ = {"KONSTRUCT_LLM_POOL_WORKERS": "1", "OLLAMA_BASE_URL": "http://127.0.0.1:1"}
    with running([sys.executable, "-m", "llm_pool.processes"], port, **environ) as parent:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            await wait_ready(client, parent)
        children = psutil.Process(parent.pid).children()
        parent.kill()
        _, alive = await asyncio.to_thread(psutil.wait_procs, children, 20)
    assert children
    assert not alive
    assert not listens(port)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_port_that_is_taken_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    clean_environment(monkeypatch)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        done = subprocess.run(
            [sys.executable, "-m", "llm_pool.processes"],
            env={**os.environ, "KONSTRUCT_LLM_POOL_WORKERS": "2", "KONSTRUCT_LLM_POOL_LISTEN": listen},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 2
    assert f"cannot listen on {listen}" in done.stderr
    assert done.stderr.count("\n") == 1
