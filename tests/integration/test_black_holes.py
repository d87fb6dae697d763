"""Links that swallow everything between claim, reply and acknowledgement: nothing lost, one answer each."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit, urlunsplit

from sqlalchemy import text

from shared.db import make_engine
from shared.reply import MessageStatus
from shared.rls import tenant_scope
from shared.stuck import ANSWER_S, LONGEST_S, PING_AFTER_S
from tests.support.database import Database
from tests.support.tcp_proxy import Mode, TcpProxy
from tests.support.waiting import eventually
from tests.support.worker import Cell


def through(proxy: TcpProxy, url: str) -> str:
    """Return `url` by way of `proxy`."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{place[0]}{place[1]}127.0.0.1:{proxy.port}"))


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port


def test_postgresql_swallowed_between_claim_and_reply(cell: Cell) -> None:
    """Another worker takes the message over; the first one's reply comes too late to count."""
    with TcpProxy(port_of(cell.database.service_url)) as postgres:
        cut = cell.start_worker(
            KONSTRUCT_DATABASE_URL=through(postgres, cell.database.service_url),
            KONSTRUCT_SYSTEM_DATABASE_URL=through(postgres, cell.database.system_url),
        )
        cell.pool.gate.clear()
        message = cell.message("hello")
        cell.submit(message)
        eventually(lambda: cell.pool.waiting == 1, what="the worker asking the pool")
        postgres.set(Mode.BLACKHOLE)
        cell.start_worker()
        cell.pool.gate.set()
        assert cell.reply(message).status is MessageStatus.ANSWERED
        assert cell.database.rows("select attempt, deaths, status from messages") == [(2, 1, "answered")]
        postgres.set(Mode.PASS)
        postgres.reset()
        # The first worker comes back, and finds what it had begun done.
        eventually(cell.settled, within_s=60, what="an acknowledged delivery")
        assert cut.exit_code() is None
        assert cell.database.rows("select attempt, status from messages") == [(2, "answered")]


def test_a_way_to_postgresql_that_stays_silent_holds_no_thread_for_ever(cell: Cell) -> None:
    """Its bytes are acknowledged and lead nowhere, also when new connections work again."""
    with TcpProxy(port_of(cell.database.service_url)) as postgres:
        worker = cell.start_worker(
            KONSTRUCT_DATABASE_URL=through(postgres, cell.database.service_url),
            KONSTRUCT_SYSTEM_DATABASE_URL=through(postgres, cell.database.system_url),
            KONSTRUCT_WORKER_CONCURRENCY="2",
        )
        cell.pool.gate.clear()
        held = [cell.message(f"held {number}") for number in range(2)]
        cell.submit(*held)
        eventually(lambda: cell.pool.waiting == 2, what="both threads asking the pool")
        postgres.set(Mode.BLACKHOLE)
        cell.pool.gate.set()
        eventually(lambda: "was given up" in cell.logs(), within_s=60, what="a connection that is given up")
        postgres.set(Mode.PASS)
        later = cell.message("later")
        cell.submit(later)
        replies = [cell.reply(message, within_s=90) for message in (*held, later)]
        assert {reply.status for reply in replies} == {MessageStatus.ANSWERED}
        assert worker.exit_code() is None


def test_one_thread_finds_out_that_idle_connections_to_postgresql_fell_silent(database: Database) -> None:
    """It waits for seconds; what was idle as long as its own is replaced without waiting."""
    with TcpProxy(port_of(database.service_url)) as proxy, ThreadPoolExecutor(4) as threads:
        url = through(proxy, database.service_url)
        engine = make_engine(database.settings(database_url=url, worker_concurrency=4))

        def ask(_: int) -> None:
            with tenant_scope("acme"), engine.begin() as connection:
                connection.execute(text("select pg_sleep(0.2)"))

        eventually(lambda: [*threads.map(ask, range(4))] and proxy.count == 4, what="four connections")
        idle = time.monotonic()
        proxy.freeze()
        eventually(lambda: time.monotonic() > idle + 2 * PING_AFTER_S, what="connections that are idle")
        began = time.monotonic()
        ask(0)
        found_out = time.monotonic()
        for _ in range(3):
            list(threads.map(ask, range(4)))
        assert found_out - began < LONGEST_S  # it was asked first, and not used
        assert time.monotonic() - found_out < ANSWER_S
        assert proxy.count == 8  # each was replaced once
        engine.dispose()


def test_redis_swallowed_between_claim_and_acknowledgement(cell: Cell) -> None:
    """The reply counts; the delivery that could not be acknowledged is no second answer."""
    with TcpProxy(port_of(cell.redis_url)) as redis:
        worker = cell.start_worker(KONSTRUCT_REDIS_URL=through(redis, cell.redis_url))
        cell.pool.gate.clear()
        message = cell.message("hello")
        cell.submit(message)
        eventually(lambda: cell.pool.waiting == 1, what="the worker asking the pool")
        redis.set(Mode.BLACKHOLE)
        cell.pool.gate.set()
        assert cell.reply(message).status is MessageStatus.ANSWERED
        assert cell.unacked() == 1
        redis.set(Mode.PASS)
        redis.reset()
        later = cell.message("later")
        cell.submit(later)
        assert cell.reply(later, within_s=60).status is MessageStatus.ANSWERED
        assert worker.exit_code() is None
    assert cell.pool.seen() == ["hello", "later"]


def test_redis_swallowed_before_the_worker_is_done_is_never_an_acknowledgement(cell: Cell) -> None:
    """A worker that dies then has acknowledged nothing: the message is there for another."""
    with TcpProxy(port_of(cell.redis_url)) as redis:
        first = cell.start_worker(KONSTRUCT_REDIS_URL=through(redis, cell.redis_url))
        cell.pool.gate.clear()
        message = cell.message("hello")
        cell.submit(message)
        eventually(lambda: cell.pool.waiting == 1, what="the worker asking the pool")
        redis.set(Mode.BLACKHOLE)
        assert cell.unacked() == 1
        cell.start_worker()
        os.kill(first.pid, signal.SIGKILL)
        cell.pool.gate.set()
        assert cell.reply(message).status is MessageStatus.ANSWERED
    assert cell.database.rows("select attempt, deaths from messages") == [(2, 1)]
