"""Faults of processes: each dies, and is started again at once, as Kubernetes would."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import psutil
import psycopg

from konstruct_cli.stack.postgres import Postgres
from konstruct_cli.stack.process import ManagedProcess, StackError
from konstruct_cli.stack.redis import Redis
from konstruct_cli.stack.server import Server
from tests.chaos.stage import WORKERS, Stage
from tests.support.waiting import eventually

ENDS_WITHIN_S = 40.0
"""Time that a process has to end once it was told to: the drain time and some."""

_SWEEPING = """
    select client_port from pg_locks join pg_stat_activity using (pid)
     where locktype = 'advisory' and (classid::bigint << 32) | objid::bigint
           = hashtextextended('konstruct.sweeper', 0)
"""

Strike = Callable[[Stage], AbstractContextManager[None]]


def end(process: ManagedProcess, how: signal.Signals) -> None:
    """Send a signal to a process, and wait until it is gone with all that it started."""
    os.kill(process.pid, how)
    eventually(lambda: process.exit_code() is not None, within_s=ENDS_WITHIN_S, what=f"{process.name}'s end")
    process.stop()


def worker(how: signal.Signals, count: int = 1) -> Strike:
    """End workers."""

    @contextmanager
    def strike(stage: Stage) -> Iterator[None]:
        names = WORKERS[:count]
        for name in names:
            os.kill(stage.workers[name].process.pid, how)
        for name in names:
            end(stage.workers[name].process, how)
            stage.start_worker(name)
        yield

    return strike


@contextmanager
def sweeper(stage: Stage) -> Iterator[None]:
    """Kill the worker that is just looking for what was lost, while it does."""
    with psycopg.connect(stage.database.superuser_url, autocommit=True) as connection:
        name = str(eventually(lambda: _holder(stage, connection), what="a worker that sweeps"))
        os.kill(stage.workers[name].process.pid, signal.SIGKILL)
    end(stage.workers[name].process, signal.SIGKILL)
    stage.start_worker(name)
    yield


def _holder(stage: Stage, connection: psycopg.Connection) -> str | None:
    """Name the worker that holds the sweeper's lock at this moment."""
    if (row := connection.execute(_SWEEPING).fetchone()) is None:
        return None
    port = stage.links.client_of("worker-postgres", row[0])
    for name, worker in stage.workers.items():
        connections = psutil.Process(worker.process.pid).net_connections("tcp")
        if port in {one.laddr.port for one in connections}:
            return name
    return None


def pool(how: signal.Signals) -> Strike:
    """End the only llm-pool."""

    @contextmanager
    def strike(stage: Stage) -> Iterator[None]:
        end(stage.pool.process, how)
        stage.pool.launch()
        yield

    return strike


def sender(how: signal.Signals) -> Strike:
    """End the sender; another one goes on."""

    @contextmanager
    def strike(stage: Stage) -> Iterator[None]:
        assert stage.sender is not None
        end(stage.sender, how)
        stage.start_sender()
        yield

    return strike


def operator(how: signal.Signals) -> Strike:
    """End the operator."""

    @contextmanager
    def strike(stage: Stage) -> Iterator[None]:
        end(stage.operator.process, how)
        stage.start_operator()
        yield

    return strike


@contextmanager
def redis(stage: Stage) -> Iterator[None]:
    """Kill Redis; it starts on its append-only file."""
    end(stage.redis.process, signal.SIGKILL)
    _start(stage.redis)
    yield


@contextmanager
def redis_emptied(stage: Stage) -> Iterator[None]:
    """Kill Redis and delete its data."""
    end(stage.redis.process, signal.SIGKILL)
    shutil.rmtree(stage.redis.data_dir)
    _start(stage.redis)
    yield


@contextmanager
def postgres(stage: Stage) -> Iterator[None]:
    """Kill PostgreSQL with all its processes; it starts on its data."""
    end(stage.postgres.process, signal.SIGKILL)
    _start(stage.postgres)
    yield


def _start(server: Redis | Postgres) -> None:
    """Start a server until it runs: what its last life left may stand in the way for a moment."""
    eventually(lambda: _started(server), within_s=60, what=server.NAME)


def _started(server: Server) -> bool:
    try:
        server.start()
    except StackError:
        return False
    return True
