"""What the pool refuses or ends: tokens, sizes, load, deadlines, clients that leave, shutdown."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator

import httpx
import pytest

from shared.contract import ProblemCode
from tests.support.providers import answer, hang
from tests.support.providers_pool import ANTHROPIC, OLLAMA, OPENAI, World, open_world, until

TOKEN = "tök3n-canary-5d1e"
"""A bearer token; not ASCII, as a person may choose."""


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    async with open_world(monkeypatch) as opened:
        yield opened


async def test_token_is_demanded_on_complete_only(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_world(monkeypatch, llm_pool_token=TOKEN) as world:
        client = world.pool.client
        wrong = [
            None,
            "",
            "Bearer",
            f"Basic {TOKEN}",
            TOKEN,
            f"Bearer {TOKEN}x",
            f"Bearer {TOKEN[:-1]}",
        ]
        for value in wrong:
            headers = {} if value is None else {b"Authorization": value.encode()}
            response = await client.post("/complete", content=b"not even JSON", headers=headers)
            assert (response.status_code, response.json()["code"]) == (401, "unauthorized"), value
            assert response.headers["www-authenticate"] == "Bearer"
            assert TOKEN not in response.text
        client.headers = httpx.Headers({b"Authorization": f"Bearer {TOKEN}".encode()})
        assert (await world.pool.reply("fast")).content
        del client.headers["Authorization"]
        for path in ("/health", "/readyz", "/metrics"):
            response = await client.get(path)
            assert response.status_code == 200
            assert TOKEN not in response.text
        assert world.ollama.count == 1


async def test_a_second_token_is_taken_and_no_third(monkeypatch: pytest.MonkeyPatch) -> None:
    other = "the-next-token-8c40"
    async with open_world(monkeypatch, llm_pool_token=TOKEN, llm_pool_second_token=other) as world:
        for token, expected in ((TOKEN, 200), (other, 200), (f"{TOKEN}x", 401)):
            world.pool.client.headers = httpx.Headers({b"Authorization": f"Bearer {token}".encode()})
            assert (await world.pool.ask("fast")).status_code == expected, token


async def test_body_over_the_limit_is_413(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_world(monkeypatch, llm_pool_max_body_bytes=2048) as world:
        problem = await world.pool.problem("fast", text="x" * 3000)
        assert (problem.status, problem.code) == (413, ProblemCode.TOO_LARGE)

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(100):
                yield b"x" * 100

        response = await world.pool.client.post("/complete", content=chunks())
        assert response.status_code == 413
        # Just below the limit is served.
        spare = 2048 - len(json.dumps({"model": "fast", "messages": [{"role": "user", "content": ""}]})) - 60
        assert (await world.pool.ask("fast", text="x" * spare)).status_code == 200
        assert world.ollama.count == 1


async def test_endless_body_is_refused_while_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_world(monkeypatch, llm_pool_max_body_bytes=2048) as world:
        url = world.pool.client.base_url
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(b"POST /complete HTTP/1.1\r\nHost: pool\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.write(b"800\r\n" + b"x" * 0x800 + b"\r\n10\r\n" + b"x" * 0x10 + b"\r\n")
        # The body has no end; the answer comes nevertheless.
        assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"HTTP/1.1 413")
        writer.close()


async def test_load_over_the_limit_is_429_with_retry_after(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_world(monkeypatch, llm_pool_max_in_flight=2) as world:
        world.ollama.default = hang()
        under_way = [asyncio.create_task(world.pool.ask("fast")) for _ in range(2)]
        await until(lambda: world.ollama.count == 2)
        assert (await world.pool.client.get("/health")).json()["in_flight"] == 2
        response = await world.pool.ask("fast")
        assert (response.status_code, response.json()["code"]) == (429, "overloaded")
        assert int(response.headers["retry-after"]) >= 1
        assert (await world.pool.metrics())["konstruct_llm_in_flight"] == 2
        await world.ollama.down()
        assert [r.status_code for r in await asyncio.gather(*under_way)] == [503, 503]
        await world.ollama.up()
        world.ollama.default = answer()
        assert (await world.pool.ask("fast")).status_code == 200
        assert (await world.pool.metrics())["konstruct_llm_in_flight"] == 0


async def test_deadline_of_the_request_is_504(world: World) -> None:
    for stub in world.providers.values():
        stub.default = hang()
    loop = asyncio.get_running_loop()
    began = loop.time()
    problem = await world.pool.problem("quality", timeout_s=0.3)
    assert 0.25 < loop.time() - began < 3
    assert (problem.status, problem.code) == (504, ProblemCode.DEADLINE_EXCEEDED)
    assert [(a.deployment, a.outcome) for a in problem.attempts] == [
        (name, "timeout") for name in (ANTHROPIC, OPENAI, OLLAMA)
    ]
    await until(lambda: world.anthropic.abandoned == 1)


async def test_pool_bounds_a_longer_deadline_by_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_world(monkeypatch, llm_pool_timeout_s=0.5) as world:
        for stub in world.providers.values():
            stub.default = hang()
        problem = await world.pool.problem("quality", timeout_s=600)
        assert problem.code is ProblemCode.DEADLINE_EXCEEDED
        assert [a.outcome for a in problem.attempts] == ["timeout"] * 3


async def test_client_that_leaves_ends_the_work(world: World) -> None:
    world.ollama.default = hang()
    task = asyncio.create_task(world.pool.ask("fast"))
    await until(lambda: world.ollama.count == 1)
    task.cancel()
    await until(lambda: world.ollama.abandoned == 1)
    name = 'konstruct_llm_requests_total{outcome="cancelled",requested_group="fast",served_group="_none"}'
    deadline = asyncio.get_running_loop().time() + 10
    while (await world.pool.metrics())[name] != 1:
        assert asyncio.get_running_loop().time() < deadline
    assert (await world.pool.metrics())["konstruct_llm_in_flight"] == 0
    world.ollama.default = answer()
    assert (await world.pool.ask("fast")).status_code == 200


async def test_client_that_leaves_while_sending_is_forgotten(world: World) -> None:
    url = world.pool.client.base_url
    with socket.create_connection((url.host, url.port or 80)) as connection:
        connection.sendall(b"POST /complete HTTP/1.1\r\nHost: pool\r\nContent-Length: 100\r\n\r\nabc")
    assert (await world.pool.ask("fast")).status_code == 200
    assert (await world.pool.metrics())["konstruct_llm_in_flight"] == 0


async def test_shutdown_finishes_what_is_under_way(world: World) -> None:
    world.ollama.default = answer("after all", delay_s=0.5)
    task = asyncio.create_task(world.pool.ask("fast"))
    idle = httpx.AsyncClient(base_url=world.pool.client.base_url, trust_env=False)
    async with idle:
        assert (await idle.get("/readyz")).status_code == 200
        await until(lambda: world.ollama.count == 1)
        world.pool.server.handle_exit(15, None)
        assert world.pool.app.state.pool.draining
    response = await task
    assert (response.status_code, response.json()["content"]) == (200, "after all")


async def test_readiness_ends_when_the_process_is_told_to_stop(world: World) -> None:
    assert (await world.pool.client.get("/readyz")).status_code == 200
    world.pool.app.state.pool.draining = True
    assert (await world.pool.client.get("/readyz")).status_code == 503
    assert (await world.pool.client.get("/health")).status_code == 200
