"""Ten thousand tenants, agents, senders and models make no series: labels never come from who asks."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator

import aiohttp
import psycopg
import pytest
from prometheus_client import generate_latest

from orchestrator.runtime import Runtime
from orchestrator.tasks import _process_message
from shared.models import KonstructMessage
from tests.support.metrics import Samples, read, total
from tests.support.pool import envelope
from tests.support.providers_pool import open_world
from tests.support.worker import Cell

COUNT = 10_000
"""Distinct names of each kind."""

KNOWN_EVERY = 20
"""One in so many requests asks for a group that there is."""

THREADS = 4
"""Threads that work on messages at once."""


async def test_of_the_llm_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_world(monkeypatch) as world:
        before = await world.pool.metrics()
        numbers = iter(range(COUNT))
        seen = {200: 0, 404: 0}

        async def ask(session: aiohttp.ClientSession) -> None:
            for number in numbers:
                body = {
                    "model": f"group-{number}" if number % KNOWN_EVERY else "quality",
                    "messages": [{"role": "user", "content": f"I am user {number}"}],
                    "tenant_id": f"tenant-{number}",
                    "agent": f"agent-{number}",
                }
                async with session.post(f"{world.pool.client.base_url}/complete", json=body) as response:
                    await response.read()
                    seen[response.status] += 1

        async with aiohttp.ClientSession() as session:
            await asyncio.gather(*(ask(session) for _ in range(16)))
        samples = await world.pool.metrics()
    assert seen == {200: COUNT // KNOWN_EVERY, 404: COUNT - COUNT // KNOWN_EVERY}
    assert total(samples, "konstruct_llm_requests_total") == COUNT
    assert samples.keys() == before.keys()


@pytest.fixture
def worker(cell: Cell) -> Iterator[Runtime]:
    """Run the parts of a worker in this process, without a queue: messages are handed to them here."""
    settings = cell.database.settings(agents_dir=cell.agents, llm_pool_url=cell.pool.url)
    made = Runtime.build(settings)
    made.start()
    yield made
    made.close()


def test_of_the_worker(cell: Cell, worker: Runtime) -> None:
    """Most messages are to agents that are not there; some are answered, by models nobody has heard of."""
    before = samples_of(worker)
    cell.pool.answer = lambda pool, exchange: exchange.send(200, made_up_model(len(pool.requests)))
    messages = [
        cell.message(f"I am {number}", sender=f"user-{number}", **addressed_to(number))
        for number in range(COUNT)
    ]
    record(cell, messages)
    left = iter(messages)
    turn = threading.Lock()

    def take() -> KonstructMessage | None:
        with turn:
            return next(left, None)

    async def work() -> None:
        while (message := take()) is not None:
            await _process_message(message.model_dump(mode="json"), worker)

    threads = [threading.Thread(target=asyncio.run, args=(work(),)) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    samples = samples_of(worker)
    assert total(samples, "konstruct_messages_total", outcome="answered") == COUNT // 100
    assert total(samples, "konstruct_apologies_total", reason="agent_unknown") == COUNT - COUNT // 100
    assert samples["konstruct_message_duration_seconds_count"] == COUNT
    assert samples.keys() == before.keys()
    assert cell.database.rows("select count(distinct tenant_id) from messages") == [
        (COUNT - COUNT // 100 + 1,)
    ]


def samples_of(worker: Runtime) -> Samples:
    return read(generate_latest(worker.metrics.registry).decode())


def addressed_to(number: int) -> dict[str, str]:
    """One in a hundred is to the agent that there is."""
    if number % 100 == 0:
        return {"tenant_id": "acme", "agent": "ada"}
    return {"tenant_id": f"tenant-{number}", "agent": f"agent-{number}"}


def made_up_model(number: int) -> bytes:
    names = {"model": f"model-{number}", "served_group": f"group-{number}", "degraded": True}
    return json.dumps(envelope("Hi.", **names, fallback_reason="unavailable")).encode()


def record(cell: Cell, messages: list[KonstructMessage]) -> None:
    """Record all of them at once: what a sender does for each is not what is tested here."""
    rows = json.dumps([message.model_dump(mode="json") for message in messages])
    with psycopg.connect(cell.database.superuser_url) as connection:
        connection.execute(
            "insert into messages (tenant_id, message_id, thread_id, agent, sender, channel, text, sent_at)"
            " select tenant_id, message_id, thread_id, agent, sender, channel, text, sent_at"
            " from jsonb_populate_recordset(null::messages, %s)",
            (rows,),
        )
