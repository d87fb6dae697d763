"""What a worker's sudden death costs its messages, with the settings of production: seconds."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from konstruct_cli.stack.process import ManagedProcess
from shared.config import Settings
from tests.support.pool import Exchange, StubPool, echo
from tests.support.waiting import eventually
from tests.support.worker import Cell

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


def seconds_until_answered(cell: Cell, worker: ManagedProcess) -> list[float]:
    """Kill `worker`; return the seconds from then until the replies to what it held were recorded."""
    killed_at = time.time()
    os.kill(worker.pid, signal.SIGKILL)
    cell.pool.gate.set()

    def finished() -> list[float]:
        rows = cell.database.rows(
            "select extract(epoch from finished_at)::float8 from messages"
            " where text like 'held%%' and status = 'answered' and deaths = 1"
        )
        return [float(str(at)) - killed_at for (at,) in rows]

    eventually(lambda: len(finished()) == HELD, within_s=PATIENCE * TARGET_S, what="all replies")
    seconds = sorted(finished())
    sys.stderr.write(f"from SIGKILL to the replies: {seconds[0]:.1f} to {seconds[-1]:.1f} s\n")
    return seconds


@contextmanager
def more_than_one_worker_can_take(cell: Cell) -> Iterator[None]:
    """Keep messages coming: there are always some that wait."""
    ended = threading.Event()

    def send() -> None:
        while not ended.wait(0.02):
            cell.submit(cell.message("more"))

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
    seconds_until_answered(cell, full_worker(cell))


def test_and_no_more_while_other_messages_wait(cell: Cell) -> None:
    cell.pool.answer = answering_after(0.2)
    full = full_worker(cell)
    with more_than_one_worker_can_take(cell):
        seconds_until_answered(cell, full)
