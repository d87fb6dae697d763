"""Alive but deaf: messages wait, the worker could take one, and nothing comes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import httpx
import pytest

from konstruct_cli.stack.process import claim_port
from orchestrator.hearing import DEAF_S, Hearing
from orchestrator.metrics import WorkerMetrics
from orchestrator.running import Running
from orchestrator.runtime import Runtime
from orchestrator.serving import StatusServer


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def listen(hearing: Hearing, clock: Clock, *, waiting: int | None = 1, idle: bool = True) -> bool:
    """Sample for as long as it takes to be deaf."""
    end = clock.now + DEAF_S
    while clock.now <= end:
        hearing.sample(waiting, idle=idle)
        clock.now += 5
    return hearing.deaf


def test_silence_while_messages_wait_is_deafness() -> None:
    clock = Clock()
    hearing = Hearing(clock=clock)
    seen = []
    hearing.sample(3, idle=True)
    for clock.now in (DEAF_S - 1, DEAF_S):
        seen.append(hearing.deaf)
    hearing.took()
    hearing.sample(3, idle=True)
    seen.append(hearing.deaf)
    assert seen == [False, True, False]


@pytest.mark.parametrize(
    ("waiting", "idle"),
    [
        pytest.param(0, True, id="nothing waits"),
        pytest.param(None, True, id="Redis is away"),
        pytest.param(1, False, id="busy, draining or behind its gate"),
    ],
)
def test_nothing_to_hear_is_no_deafness(waiting: int | None, idle: bool) -> None:
    clock = Clock()
    assert not listen(Hearing(clock=clock), clock, waiting=waiting, idle=idle)


def test_deliveries_now_and_then_are_enough() -> None:
    clock = Clock()
    hearing = Hearing(clock=clock)
    for _ in range(10):
        hearing.took()
        hearing.sample(100, idle=True)
        for _ in range(5):
            clock.now += 5
            hearing.sample(100, idle=True)
            assert not hearing.deaf


@dataclass
class Reached:
    """What was reached so far."""

    missing: str | None = None


@dataclass
class Parts:
    """What the server asks of a worker."""

    accepting: bool = True
    hearing: Hearing = field(default_factory=lambda: Hearing(deaf_s=0))
    running: Running = field(default_factory=lambda: Running(drain_s=0))
    metrics: WorkerMetrics = field(default_factory=WorkerMetrics)
    reaching: Reached = field(default_factory=Reached)


def test_the_probes_tell_alive_from_ready() -> None:
    parts, port = Parts(), claim_port("status", None)
    server = StatusServer(f"127.0.0.1:{port}", cast(Runtime, parts))
    server.start()

    def probes() -> tuple[int, int]:
        health, ready = (
            httpx.get(f"http://127.0.0.1:{port}/{path}", trust_env=False) for path in ("healthz", "readyz")
        )
        return health.status_code, ready.status_code

    try:
        assert probes() == (200, 200)
        parts.reaching.missing = "Redis"
        assert probes() == (200, 503)
        parts.reaching.missing = None
        parts.accepting = False
        assert probes() == (200, 503)
        parts.accepting = True
        parts.hearing.sample(1, idle=True)
        assert probes() == (503, 200)
        parts.hearing.sample(0, idle=True)
        parts.running.drain()
        assert probes() == (200, 503)
    finally:
        server.stop()
