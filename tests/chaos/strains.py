"""Faults in which nothing dies: a full disk, a wrong clock, providers that answer strangely."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import redis as redis_client

from tests.chaos.kills import Strike, end
from tests.chaos.stage import WORKERS, Stage
from tests.support.providers import Act
from tests.support.waiting import eventually

SKEWED = Path(__file__).with_name("skewed")
"""Folder with what shifts a Python process's clock."""

QUALITY = ("anthropic", "openai")
"""The providers of the group that agents ask; the third is its fallback."""


@contextmanager
def redis_disk_full(stage: Stage) -> Iterator[None]:
    """Have Redis write nothing more to its append-only file, without root and without filling a disk.

    No file of the process may grow beyond what the append-only file is now: a write then fails as on a full
    disk, with another number. Redis refuses commands that write (MISCONF) until one succeeds.
    """
    process = psutil.Process(stage.redis.process.pid)
    files = list((stage.redis.data_dir / "appendonlydir").glob("*.incr.aof"))
    before = process.rlimit(resource.RLIMIT_FSIZE)
    process.rlimit(resource.RLIMIT_FSIZE, (max(file.stat().st_size for file in files), before[1]))
    try:
        eventually(lambda: _refuses_writes(stage), what="a Redis that cannot write")
        yield
    finally:
        process.rlimit(resource.RLIMIT_FSIZE, before)
    eventually(lambda: not _refuses_writes(stage), what="a Redis that can write again")


def _refuses_writes(stage: Stage) -> bool:
    with redis_client.Redis.from_url(stage.redis.url(), socket_timeout=5) as client:
        try:
            client.set("chaos", "1", ex=1)
        except redis_client.exceptions.ResponseError as error:
            return "MISCONF" in str(error)
    return False


def clock(shift_s: float) -> Strike:
    """Put a worker in the place of another whose clock is wrong, and the other one back at the end."""

    @contextmanager
    def strike(stage: Stage) -> Iterator[None]:
        name = WORKERS[0]
        end(stage.workers[name].process, signal.SIGTERM)
        skewed = stage.start_worker(name, PYTHONPATH=str(SKEWED), CHAOS_SKEW_S=str(shift_s))
        skewed.wait_ready()
        try:
            yield
        finally:
            end(skewed.process, signal.SIGTERM)
            stage.start_worker(name)

    return strike


def providers(act: Act) -> Strike:
    """Have the providers of the agents' group do this; the fallback is well."""

    @contextmanager
    def strike(stage: Stage) -> Iterator[None]:
        stage.providers.behave(dict.fromkeys(QUALITY, act))
        try:
            yield
        finally:
            stage.providers.behave({})

    return strike
