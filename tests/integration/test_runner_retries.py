"""The runner asks again what may pass by itself: in the message's time, and never as a storm."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from konstruct_cli.stack.process import claim_port
from orchestrator.agents.answers import RunResult
from orchestrator.agents.patience import RETRIES_PER_S, RETRY_SHARE, Trouble
from orchestrator.agents.runner import MOST_LOST, Runner
from shared.config import Settings
from shared.contract import CompletionRequest
from shared.reply import Reason
from tests.support.pool import Exchange, StubPool, echo, running_stub_pool
from tests.support.tcp_proxy import Mode, TcpProxy
from tests.support.waiting import eventually

THREADS = 32
"""Messages that a worker answers at once."""


class Asking:
    """A runner, and what it was told of its retries."""

    def __init__(self, url: str) -> None:
        self.retried: list[Trouble] = []
        settings = Settings.model_validate({"llm_pool_url": url, "worker_concurrency": THREADS})
        self.runner = Runner(settings, self.retried.append)

    def ask(self, timeout_s: float = 30.0) -> RunResult:
        """Ask as a task does: on a loop of its own."""
        request = CompletionRequest.model_validate(
            {
                "model": "quality",
                "messages": [{"role": "user", "content": "hello"}],
                "tenant_id": "acme",
                "timeout_s": timeout_s,
            }
        )
        return asyncio.run(self.runner.run(request))


@contextmanager
def asking(url: str) -> Iterator[Asking]:
    made = Asking(url)
    made.runner.start()
    try:
        yield made
    finally:
        made.runner.close()


def first(*answers: Callable[[StubPool, Exchange], None]) -> Callable[[StubPool, Exchange], None]:
    """Give these answers in turn, then echo."""
    left = list(answers)

    def answer(pool: StubPool, exchange: Exchange) -> None:
        following = left.pop(0) if left else echo
        following(pool, exchange)

    return answer


def overloaded(_: StubPool, exchange: Exchange) -> None:
    exchange.send(429, b"{}", retry_after="1")


def unavailable(_: StubPool, exchange: Exchange) -> None:
    exchange.send(503, b"<html>no upstream</html>", "text/html")


def cut(_: StubPool, exchange: Exchange) -> None:
    exchange.handler.close_connection = True


def test_an_overloaded_pool_is_asked_again_no_sooner_than_it_says(stub_pool: StubPool) -> None:
    stub_pool.answer = first(overloaded, overloaded)
    began = time.monotonic()
    with asking(stub_pool.url) as worker:
        assert worker.ask().reason is None
    assert time.monotonic() - began >= 2
    assert worker.retried == [Trouble.OVERLOADED] * 2
    # The pool is told what is left, each time.
    told = [asked.timeout_s or 0 for asked in stub_pool.requests]
    assert 29 < told[0] <= 30
    assert told[0] - told[1] >= 1 <= told[1] - told[2]


def test_it_is_not_waited_for_beyond_the_messages_time(stub_pool: StubPool) -> None:
    stub_pool.answer = lambda _, exchange: exchange.send(429, b"{}", retry_after="60")
    began = time.monotonic()
    with asking(stub_pool.url) as worker:
        worker.ask(timeout_s=20)
    assert time.monotonic() - began < 10
    assert len(stub_pool.requests) == 1


@pytest.mark.parametrize(
    ("answer", "trouble"), [(unavailable, Trouble.UNAVAILABLE), (cut, Trouble.LOST)], ids=["503", "cut"]
)
def test_what_may_pass_by_itself_costs_no_message(
    stub_pool: StubPool, answer: Callable[[StubPool, Exchange], None], trouble: Trouble
) -> None:
    stub_pool.answer = first(answer, answer)
    with asking(stub_pool.url) as worker:
        assert worker.ask().reason is None
    assert worker.retried == [trouble] * 2


@pytest.mark.parametrize(
    ("status", "code"), [(503, "providers_failed"), (503, "fallback_refused"), (504, "deadline_exceeded")]
)
def test_a_verdict_of_the_pool_is_final(stub_pool: StubPool, status: int, code: str) -> None:
    problem = f'{{"type": "t", "title": "t", "status": {status}, "detail": "d", "code": "{code}"}}'
    stub_pool.answer = lambda _, exchange: exchange.send(status, problem.encode())
    with asking(stub_pool.url) as worker:
        assert worker.ask().reason == code
    assert len(stub_pool.requests) == 1


def test_a_request_that_may_be_what_ends_the_pool_is_not_sent_for_ever(stub_pool: StubPool) -> None:
    stub_pool.answer = cut
    with asking(stub_pool.url) as worker:
        assert worker.ask().reason is Reason.POOL_UNREACHABLE
    assert len(stub_pool.requests) == MOST_LOST


def test_messages_wait_for_a_pool_that_is_not_there_yet() -> None:
    port = claim_port("pool", None)
    with asking(f"http://127.0.0.1:{port}") as worker, ThreadPoolExecutor(THREADS) as threads:
        results = [threads.submit(worker.ask) for _ in range(THREADS)]
        eventually(lambda: worker.runner.away, what="finding it away")
        assert not any(result.done() for result in results)
        with running_stub_pool(port) as pool:
            assert {result.result().reason for result in results} == {None}
            assert len(pool.requests) == THREADS
        assert not worker.runner.away
    assert worker.retried == [Trouble.UNREACHABLE] * len(worker.retried)


def test_messages_outlive_a_pool_that_is_cut_off_while_it_answers(stub_pool: StubPool) -> None:
    stub_pool.gate.clear()
    with (
        TcpProxy(stub_pool.server.server_address[1]) as proxy,
        asking(f"http://127.0.0.1:{proxy.port}") as worker,
        ThreadPoolExecutor(THREADS) as threads,
    ):
        results = [threads.submit(worker.ask) for _ in range(THREADS)]
        eventually(lambda: stub_pool.waiting == THREADS, what="all being asked")
        proxy.set(Mode.REFUSE)
        proxy.reset()
        eventually(lambda: worker.runner.away, what="finding it away")
        stub_pool.gate.set()
        proxy.set(Mode.PASS)
        assert {result.result().reason for result in results} == {None}
    assert worker.retried == [Trouble.LOST] * THREADS


def test_while_the_pool_is_away_only_one_probe_at_a_time_asks(stub_pool: StubPool) -> None:
    stub_pool.answer, stub_pool.ready = unavailable, False
    with asking(stub_pool.url) as worker, ThreadPoolExecutor(2 * THREADS) as threads:
        results = [threads.submit(worker.ask) for _ in range(THREADS)]
        eventually(lambda: stub_pool.probes >= 3, what="probes")
        asked = len(stub_pool.requests)
        later = [threads.submit(worker.ask) for _ in range(THREADS)]
        before = stub_pool.probes
        eventually(lambda: stub_pool.probes >= before + 3, what="more probes")
        # None of those that came later, and none of the first a second time.
        assert len(stub_pool.requests) == asked <= THREADS
        stub_pool.answer, stub_pool.ready = echo, True
        assert {result.result().reason for result in results + later} == {None}
    assert len(stub_pool.requests) == asked + 2 * THREADS


def test_an_outage_does_not_multiply_what_is_asked(stub_pool: StubPool) -> None:
    """Everything fails, and the probe is told that all is well."""
    stub_pool.answer = unavailable
    messages, began = 150, time.monotonic()
    with asking(stub_pool.url) as worker, ThreadPoolExecutor(THREADS) as threads:
        results = list(threads.map(lambda _: worker.ask(timeout_s=1.5), range(messages)))
    seconds = time.monotonic() - began
    assert {result.reason for result in results} == {Reason.POOL_ERROR}
    budget = THREADS + messages * RETRY_SHARE + seconds * RETRIES_PER_S
    assert messages < len(stub_pool.requests) <= messages + budget


def test_a_wait_ends_at_once_when_the_worker_does(stub_pool: StubPool) -> None:
    stub_pool.answer, stub_pool.ready = unavailable, False
    with asking(stub_pool.url) as worker, ThreadPoolExecutor(2) as threads:
        waiting = threads.submit(worker.ask, 600)
        eventually(lambda: stub_pool.probes, what="a message that waits")
        worker.runner.stop_waiting()
        with pytest.raises(asyncio.CancelledError):
            waiting.result(timeout=10)
        late = threads.submit(worker.ask, 600)
        with pytest.raises(asyncio.CancelledError):
            late.result(timeout=10)
