"""What a worker's sudden death costs its messages, with the settings of production: seconds."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import psycopg
import pytest

from konstruct_cli.stack.process import ManagedProcess
from shared.config import Settings
from tests.support.pool import Exchange, StubPool, echo
from tests.support.waiting import eventually
from tests.support.worker import Cell, write_agent

TARGET_S = 10.0
"""Longest from a worker's death to the reply of any message that it held, on a machine that is not busy."""

PATIENCE = 3
"""How many times as long a busy machine may take."""

HELD = 8
"""Messages that a worker of a test answers at once."""

PRODUCTION = {
    f"KONSTRUCT_{name.upper()}": str(Settings.model_fields[name].default) for name in ("lease_s", "drain_s")
}
"""What tests shorten elsewhere."""


def full_worker(cell: Cell) -> ManagedProcess:
    """Start a worker that holds as many messages as it can, and another that has none."""
    full = cell.start_worker(**PRODUCTION)
    cell.pool.gate.clear()
    cell.submit(*(cell.message(f"held {number}") for number in range(HELD)))
    eventually(lambda: cell.pool.waiting == HELD, what="a worker full of work")
    cell.start_worker(**PRODUCTION)
    return full


def kill(cell: Cell, worker: ManagedProcess) -> float:
    """Kill `worker`, let the pool answer the others, and return when that was."""
    killed_at = time.time()
    os.kill(worker.pid, signal.SIGKILL)
    cell.pool.gate.set()
    return killed_at


def seconds_until_answered(cell: Cell, killed_at: float, *, count: int = HELD, deaths: int = 1) -> None:
    """Tell the seconds from a worker's end until the replies to what it held were recorded."""

    def finished() -> list[float]:
        rows = cell.database.rows(
            "select extract(epoch from finished_at)::float8 from messages"
            " where text like 'held%%' and status = 'answered' and deaths = %s",
            deaths,
        )
        return [float(str(at)) - killed_at for (at,) in rows]

    eventually(lambda: len(finished()) == count, within_s=PATIENCE * TARGET_S, what="all replies")
    seconds = sorted(finished())
    sys.stderr.write(f"from SIGKILL to the replies: {seconds[0]:.1f} to {seconds[-1]:.1f} s\n")


@contextmanager
def more_than_one_worker_can_take(cell: Cell, tenant: str = "acme") -> Iterator[None]:
    """Keep messages coming: there are always some that wait."""
    ended = threading.Event()

    def send() -> None:
        while not ended.wait(0.02):
            cell.submit(cell.message("more", tenant_id=tenant))

    thread = threading.Thread(target=send)
    thread.start()
    try:
        waiting = f"select count(*) > {HELD} from messages where status = 'received' and owner is null"
        eventually(lambda: cell.database.rows(waiting) == [(True,)], what="messages that wait")
        yield
    finally:
        ended.set()
        thread.join()


def answering_after(seconds: float) -> Callable[[StubPool, Exchange], None]:
    def answer(pool: StubPool, exchange: Exchange) -> None:
        time.sleep(seconds)
        echo(pool, exchange)

    return answer


def test_a_killed_worker_costs_its_messages_seconds(cell: Cell) -> None:
    seconds_until_answered(cell, kill(cell, full_worker(cell)))


def test_and_no_more_while_other_messages_wait(cell: Cell) -> None:
    cell.pool.answer = answering_after(0.2)
    full = full_worker(cell)
    with more_than_one_worker_can_take(cell):
        seconds_until_answered(cell, kill(cell, full))


@contextmanager
def nobody_can_claim(cell: Cell, text: str) -> Iterator[None]:
    """Lock messages in PostgreSQL: a worker takes their deliveries, and waits."""
    with psycopg.connect(cell.database.superuser_url) as locking:
        locking.execute("select from messages where text like %s for update", (f"{text}%",))
        yield


@pytest.mark.parametrize("tenant", ["acme", "globex"])
def test_nor_does_what_it_took_and_had_not_claimed(cell: Cell, tenant: str) -> None:
    """Redis still holds those deliveries for the dead worker, and others wait there all the time."""
    write_agent(cell.agents, "globex", "ada")
    cell.pool.answer = answering_after(0.2)
    cell.pool.gate.clear()
    cell.start_worker(**PRODUCTION, KONSTRUCT_WORKER_CONCURRENCY=str(few := 2))
    cell.submit(*(cell.message(f"busy {number}") for number in range(few)))
    eventually(lambda: cell.pool.waiting == few, what="a worker that takes no more")
    held = [cell.message(f"held {number}") for number in range(HELD // 2)]
    cell.submit(*held)
    for message in held:  # once more: there are then no fewer deliveries than messages, whatever dies
        cell.deliver(message.model_dump(mode="json"))
    with ExitStack() as load:
        with nobody_can_claim(cell, "held"):
            doomed = cell.start_worker(**PRODUCTION)
            eventually(lambda: cell.unacked() == few + HELD, what="a worker that holds all of it")
            load.enter_context(more_than_one_worker_can_take(cell, tenant))
            killed_at = kill(cell, doomed)
        seconds_until_answered(cell, killed_at, count=len(held), deaths=0)
