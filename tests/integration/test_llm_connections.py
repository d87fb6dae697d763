"""What strangers may do to the pool's connections, at the shipped settings, to a real process."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import httpx
import psutil
import pytest

from llm_pool.wire import HEAD_S, MAX_HEAD_BYTES
from tests.support.half_open import half_open
from tests.support.metrics import scrape, total
from tests.support.pool_process import command, free_port, running, wait_ready
from tests.support.providers import StubProvider, answer
from tests.support.providers_pool import clean_environment, until

BODY = json.dumps(
    {"model": "fast", "tenant_id": "acme", "messages": [{"role": "user", "content": "Hi"}]}
).encode()

REQUEST = (
    b"POST /complete HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
)


class Server:
    """A running pool, and the provider behind it."""

    def __init__(self, port: int, process: psutil.Process, provider: StubProvider) -> None:
        self.port = port
        self.process = process
        self.provider = provider

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    async def health_s(self) -> float:
        """Ask /health on a connection of its own; returns the seconds that it took."""
        began = time.monotonic()
        async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
            assert (await client.get(f"http://127.0.0.1:{self.port}/health")).status_code == 200
        return time.monotonic() - began


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    clean_environment(monkeypatch)
    port = free_port()
    async with (
        StubProvider("ollama", "qwen3:8b") as ollama,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client,
    ):
        with running(command(), port, OLLAMA_BASE_URL=ollama.root) as process:
            await wait_ready(client, process)
            yield Server(port, psutil.Process(process.pid), ollama)


def send_all(client: socket.socket, data: bytes) -> bytes:
    """Send as far as the server lets, and read what it says until it closes."""
    said = b""
    with suppress(OSError):  # it had enough
        client.sendall(data)
    with suppress(OSError):
        while part := client.recv(65536):
            said += part
    return said


ENDLESS: dict[str, Callable[[], bytes]] = {
    "one header of 60 MB": lambda: b"GET /health HTTP/1.1\r\nHost: x\r\nx-y: " + b"a" * 60_000_000,
    "100,000 headers": lambda: b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"x-y: z\r\n" * 100_000,
    "a request line of 10 MB": lambda: b"GET /" + b"a" * 10_000_000,
    "spaces": lambda: b"GET " + b" " * 10_000_000,
}


@pytest.mark.parametrize("what", ENDLESS)
async def test_a_head_without_end_costs_nothing(server: Server, what: str) -> None:
    before = server.process.memory_info().rss
    with server.connect() as client:
        sending = asyncio.create_task(asyncio.to_thread(send_all, client, ENDLESS[what]()))
        while not (await asyncio.wait([sending], timeout=0.05))[0]:
            assert await server.health_s() < 5
        said = await sending
    # A reset may overtake the answer.
    assert said == b"" or said.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))
    assert server.process.memory_info().rss - before < 10_000_000


async def test_a_head_over_the_limit_is_431_and_one_below_is_taken(server: Server) -> None:
    start = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\nx-y: "
    for size, status in ((MAX_HEAD_BYTES - 200, b"200"), (MAX_HEAD_BYTES + 200, b"431")):
        with server.connect() as client:
            said = await asyncio.to_thread(send_all, client, start + b"a" * (size - len(start)) + b"\r\n\r\n")
            assert said.split()[1] == status
            if status == b"431":
                assert b'"code":"invalid_request"' in said


async def test_half_a_head_is_given_up(server: Server) -> None:
    for held in (b"", b"GET /hea", b"GET /health HTTP/1.1\r\nHost: x\r\n"):
        with server.connect() as client:
            began = time.monotonic()
            said = await asyncio.to_thread(send_all, client, held)
            assert HEAD_S - 1 < time.monotonic() - began < HEAD_S + 10
            assert said.split()[1] == b"408"


async def test_the_next_head_of_a_kept_connection_has_its_time_too(server: Server) -> None:
    with server.connect() as client:
        client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await asyncio.to_thread(client.recv, 65536)).split()[1] == b"200"
        said = await asyncio.to_thread(send_all, client, b"GET /hea")
        assert said.split()[1] == b"408"


async def test_a_client_that_sends_no_more_gets_its_answer(server: Server) -> None:
    server.provider.default = answer("after all", delay_s=1.0)
    with server.connect() as client:
        client.sendall(REQUEST % (len(BODY), BODY))
        client.shutdown(socket.SHUT_WR)
        said = await asyncio.to_thread(send_all, client, b"")
    *interim, head, body = said.split(b"\r\n\r\n")
    assert all(one.startswith(b"HTTP/1.1 102") for one in interim)
    assert head.startswith(b"HTTP/1.1 200")
    assert json.loads(body)["content"] == "after all"


async def test_a_client_that_leaves_is_noticed(server: Server) -> None:
    server.provider.default = answer(delay_s=20)
    with server.connect() as client:
        client.sendall(REQUEST % (len(BODY), BODY))
        await until(lambda: server.provider.count == 1)
    began = time.monotonic()
    await until(lambda: server.provider.abandoned == 1 or in_flight(server.port) == 0)
    assert time.monotonic() - began < 10


def in_flight(port: int) -> float:
    return total(scrape(f"http://127.0.0.1:{port}"), "konstruct_llm_in_flight")


@pytest.mark.parametrize("extra", [b";" + b"x" * 200, b""], ids=["extensions", "trailers"])
async def test_a_body_that_is_hardly_any_is_refused(server: Server, extra: bytes) -> None:
    head = b"POST /complete HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    rest = (b"1" + extra + b"\r\n{\r\n") * 20_000 if extra else b"1\r\n{\r\n0\r\n" + b"x-y: z\r\n" * 100_000
    with server.connect() as client:
        said = await asyncio.to_thread(send_all, client, head + rest)
    assert said == b"" or said.split()[1] in (b"400", b"413", b"431", b"422")
    assert await server.health_s() < 5


async def test_whoever_holds_connections_keeps_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """With few files to open, so that the limit is one that a test reaches."""
    clean_environment(monkeypatch)
    port = free_port()
    arguments = ["prlimit", "--nofile=400:400", *command()]
    async with (
        StubProvider("ollama", "qwen3:8b") as ollama,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client,
    ):
        with running(arguments, port, OLLAMA_BASE_URL=ollama.root) as process:
            await wait_ready(client, process)
            server = Server(port, psutil.Process(process.pid), ollama)
            with half_open(f"127.0.0.1:{port}", 450):
                assert await server.health_s() < 5
                response = await client.post("/complete", content=BODY)
                assert response.status_code == 200
            assert server.process.num_fds() < 400
