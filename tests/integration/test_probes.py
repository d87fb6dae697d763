"""What a worker's probes say while what it needs is away: at its start, and later."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import psutil
import pytest

from konstruct_cli.stack.postgres import Postgres
from konstruct_cli.stack.process import claim_port
from konstruct_cli.stack.redis import Redis
from shared.reply import MessageStatus
from tests.support.half_open import half_open
from tests.support.tcp_proxy import Mode, TcpProxy
from tests.support.waiting import eventually
from tests.support.worker import Cell


def probe(listen: str, path: str) -> tuple[int, str]:
    """Ask a probe as the kubelet does; (0, "") when nobody answers."""
    try:
        answer = httpx.get(f"http://{listen}{path}", trust_env=False, timeout=5)
    except httpx.TransportError:
        return 0, ""
    return answer.status_code, answer.text.strip()


@contextmanager
def watched(listen: str) -> Iterator[Counter[tuple[str, int]]]:
    """Ask both probes all the time; count what they say."""
    seen: Counter[tuple[str, int]] = Counter()
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.05):
            seen.update((path, probe(listen, path)[0]) for path in ("/healthz", "/readyz"))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def waits_for(cell: Cell, store: str) -> str:
    """Launch a worker while `store` is away, and look at what it says; return where."""
    listen = f"127.0.0.1:{claim_port('status', None)}"
    cell.launch_worker(KONSTRUCT_WORKER_LISTEN=listen)
    eventually(
        lambda: probe(listen, "/readyz") == (503, f"{store} has not been reached yet"),
        within_s=60,
        what=f"waiting for {store}",
    )
    assert probe(listen, "/healthz") == (200, "ok")
    return listen


def works_at(listen: str, cell: Cell) -> None:
    """Check that the worker goes on by itself."""
    eventually(lambda: probe(listen, "/readyz") == (200, "ok"), within_s=60, what="being ready")
    message = cell.message("hello")
    cell.submit(message)
    assert cell.reply(message).status is MessageStatus.ANSWERED
    assert cell.workers[0].exit_code() is None


def test_a_worker_that_starts_before_postgresql_waits_for_it(own_cell: Cell, postgres: Postgres) -> None:
    postgres.stop()
    listen = waits_for(own_cell, "PostgreSQL")
    with Postgres(postgres.data_dir, postgres.port, password=postgres.password, durable=False):
        works_at(listen, own_cell)
        assert own_cell.logs().count("PostgreSQL is away: waiting for it") == 1
        assert "Traceback" not in own_cell.logs()


def test_a_worker_that_starts_before_redis_waits_for_it(own_cell: Cell, redis: Redis) -> None:
    redis.stop()
    listen = waits_for(own_cell, "Redis")
    with Redis(redis.data_dir, redis.port, password=redis.password, appendonly=True):
        works_at(listen, own_cell)
        assert "Traceback" not in own_cell.logs()


@pytest.mark.parametrize("store", ["PostgreSQL", "Redis"])
def test_a_worker_that_waits_ends_when_it_is_told_to(
    own_cell: Cell, postgres: Postgres, redis: Redis, store: str
) -> None:
    """By itself: what has no handler for the signal would not end as process 1 of a container."""
    (postgres if store == "PostgreSQL" else redis).stop()
    waits_for(own_cell, store)
    worker = own_cell.workers[0]
    os.kill(worker.pid, signal.SIGTERM)
    eventually(lambda: worker.exit_code() is not None, what="the worker's end")
    assert worker.exit_code() == 0
    assert "Traceback" not in own_cell.logs()


def test_probes_stay_as_they_are_while_what_is_needed_goes_and_comes(
    own_cell: Cell, postgres: Postgres, redis: Redis
) -> None:
    """A restart would bring none of them back; nor would a worker that is not ready."""
    cell = own_cell
    listen = f"127.0.0.1:{claim_port('status', None)}"
    with TcpProxy(cell.pool.server.server_address[1]) as pool:
        cell.start_worker(
            KONSTRUCT_WORKER_LISTEN=listen, KONSTRUCT_LLM_POOL_URL=f"http://127.0.0.1:{pool.port}"
        )
        works_at(listen, cell)
        with watched(listen) as seen:
            late = cell.message("while the pool is away")
            pool.set(Mode.REFUSE)
            pool.reset()
            cell.submit(late)
            eventually(lambda: "the llm-pool is away" in cell.logs(), what="noticing the pool's end")
            pool.set(Mode.PASS)
            assert cell.reply(late).status is MessageStatus.ANSWERED

            late = cell.message("while PostgreSQL is away")
            postgres.stop()
            cell.deliver(late.model_dump(mode="json"))
            eventually(lambda: "cannot be claimed" in cell.logs(), what="noticing PostgreSQL's end")
            with Postgres(postgres.data_dir, postgres.port, password=postgres.password, durable=False):
                assert cell.reply(late).status is MessageStatus.ANSWERED

                late = cell.message("while Redis is away")
                redis.stop()
                cell.submit(late)
                eventually(lambda: "Cannot connect to redis" in cell.logs(), what="noticing Redis's end")
                with Redis(redis.data_dir, redis.port, password=redis.password, appendonly=True):
                    assert cell.reply(late).status is MessageStatus.ANSWERED
                    works_at(listen, cell)
    assert set(seen) == {("/healthz", 200), ("/readyz", 200)}, seen
    assert min(seen.values()) >= 5  # on a busy machine


def test_whoever_holds_connections_keeps_no_probe_out(cell: Cell) -> None:
    listen = f"127.0.0.1:{claim_port('worker', None)}"
    worker = cell.start_worker(KONSTRUCT_WORKER_LISTEN=listen)
    threads = psutil.Process(worker.pid).num_threads()
    with half_open(listen, 200):
        assert probe(listen, "/healthz") == (200, "ok")
        assert probe(listen, "/readyz") == (200, "ok")
        assert psutil.Process(worker.pid).num_threads() - threads < 100
