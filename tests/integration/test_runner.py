"""The runner against an llm-pool that fails in every way: the polite sentence, never an exception."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from orchestrator.agents.answers import POLITE_FALLBACK, RunResult
from orchestrator.agents.runner import Runner
from shared.config import Settings
from shared.contract import CompletionRequest, Problem
from shared.reply import Reason
from tests.support.pool import Exchange, StubPool, echo, envelope
from tests.support.waiting import eventually


def request(timeout_s: float = 5.0) -> CompletionRequest:
    return CompletionRequest.model_validate(
        {
            "model": "quality",
            "messages": [{"role": "user", "content": "hello"}],
            "tenant_id": "acme",
            "timeout_s": timeout_s,
        }
    )


@contextmanager
def running(url: str, token: str | None = None) -> Iterator[Runner]:
    made = Runner(Settings.model_validate({"llm_pool_url": url, "llm_pool_token": token}))
    made.start()
    try:
        yield made
    finally:
        made.close()


async def ask(url: str, timeout_s: float = 5.0) -> RunResult:
    with running(url) as runner:
        return await runner.run(request(timeout_s))


def problem(status: int, code: str) -> Callable[[StubPool, Exchange], None]:
    body = Problem.model_validate(
        {"type": f"urn:konstruct:problem:{code}", "title": "t", "status": status, "detail": "d", "code": code}
    ).model_dump_json()
    return lambda _, exchange: exchange.send(status, body.encode(), "application/problem+json")


def raw(data: bytes) -> Callable[[StubPool, Exchange], None]:
    def answer(_: StubPool, exchange: Exchange) -> None:
        exchange.handler.wfile.write(data)
        exchange.handler.close_connection = True

    return answer


def body(text: str, status: int = 200) -> Callable[[StubPool, Exchange], None]:
    return lambda _, exchange: exchange.send(status, text.encode())


FAILURES = {
    "unauthorized": (problem(401, "unauthorized"), Reason.POOL_UNAUTHORIZED),
    "unknown group": (problem(404, "unknown_group"), Reason.GROUP_UNKNOWN),
    "too large": (problem(413, "too_large"), Reason.REQUEST_REFUSED),
    "invalid request": (problem(422, "invalid_request"), Reason.REQUEST_REFUSED),
    "overloaded": (problem(429, "overloaded"), Reason.POOL_OVERLOADED),
    "providers failed": (problem(503, "providers_failed"), Reason.PROVIDERS_FAILED),
    "fallback refused": (problem(503, "fallback_refused"), Reason.FALLBACK_REFUSED),
    "deadline": (problem(504, "deadline_exceeded"), Reason.DEADLINE_EXCEEDED),
    "500 without a problem": (body("oops", 500), Reason.POOL_ERROR),
    "502 from a proxy": (body("<html>bad gateway</html>", 502), Reason.POOL_ERROR),
    "an unknown problem": (problem(500, "internal_error"), Reason.POOL_ERROR),
    "redirect": (body("", 307), Reason.POOL_ERROR),
    "no JSON": (body("hello"), Reason.POOL_ERROR),
    "other JSON": (body('{"choices": []}'), Reason.POOL_ERROR),
    "a list": (body("[]"), Reason.POOL_ERROR),
    "empty body": (body(""), Reason.POOL_ERROR),
    "blank reply": (body(json.dumps(envelope("x")).replace('"x"', '"  "', 1)), Reason.POOL_ERROR),
    "lone surrogate": (body(json.dumps(envelope("x")).replace('"x"', r'"\ud800"', 1)), Reason.POOL_ERROR),
    "connection cut": (raw(b""), Reason.POOL_UNREACHABLE),
    "no HTTP": (raw(b"SSH-2.0-OpenSSH\r\n"), Reason.POOL_UNREACHABLE),
    "half a body": (
        raw(b'HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{"content"'),
        Reason.POOL_UNREACHABLE,
    ),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_a_failure_becomes_the_polite_sentence(name: str, stub_pool: StubPool) -> None:
    stub_pool.answer, reason = FAILURES[name]
    result = await ask(stub_pool.url, timeout_s=4)
    assert (result.text, result.envelope, result.reason) == (POLITE_FALLBACK, None, reason)


async def test_an_absent_pool_becomes_the_polite_sentence() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        result = await ask(f"http://127.0.0.1:{unused.getsockname()[1]}", timeout_s=1.5)
    assert (result.text, result.reason) == (POLITE_FALLBACK, Reason.POOL_UNREACHABLE)


@pytest.mark.parametrize("url", ["http://no-such-host.invalid:8004", "nonsense", "http://[::1"])
async def test_a_wrong_address_becomes_the_polite_sentence(url: str) -> None:
    result = await ask(url, timeout_s=1.5)
    assert result.text == POLITE_FALLBACK
    assert result.reason in (Reason.POOL_UNREACHABLE, Reason.INTERNAL_ERROR)


async def test_a_hang_becomes_the_polite_sentence_in_time(
    stub_pool: StubPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.agents.runner.GRACE_S", 0.1)
    stub_pool.gate.clear()
    started = time.monotonic()
    result = await ask(stub_pool.url, timeout_s=0.3)
    assert (result.text, result.reason) == (POLITE_FALLBACK, Reason.DEADLINE_EXCEEDED)
    assert time.monotonic() - started < 5


async def test_a_drip_becomes_the_polite_sentence_in_time(
    stub_pool: StubPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.agents.runner.GRACE_S", 0.1)
    ended = asyncio.Event()

    def drip(_: StubPool, exchange: Exchange) -> None:
        exchange.handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n")
        while not ended.is_set():  # each byte would renew a timeout that counts reads
            exchange.handler.wfile.write(b" ")
            time.sleep(0.05)

    stub_pool.answer = drip
    result = await ask(stub_pool.url, timeout_s=0.4)
    ended.set()
    assert (result.text, result.reason) == (POLITE_FALLBACK, Reason.DEADLINE_EXCEEDED)


async def test_a_kept_connection_that_was_closed_is_no_failure(stub_pool: StubPool) -> None:
    def close_instead(pool: StubPool, exchange: Exchange) -> None:
        pool.answer = echo
        exchange.handler.close_connection = True

    with running(stub_pool.url) as runner:
        assert (await runner.run(request())).reason is None
        stub_pool.answer = close_instead
        assert (await runner.run(request())).reason is None
    assert len(stub_pool.requests) == 3


async def test_a_cancelled_task_is_not_an_apology(stub_pool: StubPool) -> None:
    stub_pool.gate.clear()
    with running(stub_pool.url) as runner:
        task = asyncio.create_task(runner.run(request()))
        await asyncio.to_thread(eventually, lambda: stub_pool.waiting)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def test_tasks_with_loops_of_their_own_share_connections(stub_pool: StubPool) -> None:
    with running(stub_pool.url) as runner, ThreadPoolExecutor(8) as threads:
        results = threads.map(lambda _: asyncio.run(runner.run(request())), range(64))
        assert {result.reason for result in results} == {None}
    assert len(stub_pool.requests) == 64
    assert len(stub_pool.ports) <= 8


async def test_the_token_is_sent_and_hidden(stub_pool: StubPool) -> None:
    with running(stub_pool.url, token="canary-token-of-the-runner") as runner:
        result = await runner.run(request())
        assert "canary-token-of-the-runner" not in repr(runner)
    assert result.reason is None
    assert stub_pool.headers[0]["authorization"] == "Bearer canary-token-of-the-runner"


async def test_a_null_character_cannot_reach_the_database(stub_pool: StubPool) -> None:
    stub_pool.answer = lambda _, exchange: exchange.send(200, json.dumps(envelope("a\x00b")).encode())
    assert (await ask(stub_pool.url)).text == "ab"
