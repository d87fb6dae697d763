"""What the llm-pool's metrics say about a time: sums, shares, processes that start again, several of them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from konstruct_cli import replicas
from konstruct_cli.live import line
from konstruct_cli.pool_metrics import increase, read_metrics, traffic
from konstruct_cli.replicas import Follower
from konstruct_cli.seen import PartStatus, PoolStatus, QueueStatus, StackStatus
from shared.config import Settings

METRICS = """
# TYPE konstruct_llm_requests_total counter
konstruct_llm_requests_total{requested_group="quality",served_group="quality",outcome="ok"} 6
konstruct_llm_requests_total{requested_group="quality",served_group="fast",outcome="ok"} 2
konstruct_llm_requests_total{requested_group="fast",served_group="fast",outcome="ok"} 2
konstruct_llm_requests_total{requested_group="quality",served_group="_none",outcome="providers_failed"} 2
konstruct_llm_requests_total{requested_group="quality",served_group="_none",outcome="cancelled"} 5
konstruct_llm_requests_total{requested_group="_unknown",served_group="_none",outcome="overloaded"} 7
# TYPE konstruct_llm_fallbacks_total counter
konstruct_llm_fallbacks_total{from_group="quality",to_group="fast",reason="rate_limited"} 3
konstruct_llm_fallbacks_total{from_group="quality",to_group="fast",reason="timeout"} 1
# TYPE konstruct_llm_deployment_cooling gauge
konstruct_llm_deployment_cooling{deployment="a/one"} 1
konstruct_llm_deployment_cooling{deployment="o/two"} 0
# TYPE konstruct_start_time_seconds gauge
konstruct_start_time_seconds 100.5
"""


def test_ratios_are_of_answers_and_of_requests_that_were_not_cancelled_or_refused() -> None:
    read = read_metrics(METRICS)
    assert (read.started, read.cooling) == (100.5, ("a/one",))
    found = traffic(read.counts)
    assert (found.requests, found.answers, found.degraded, found.failed) == (12, 10, 2, 2)
    assert (found.fallback_ratio, found.refused) == (0.2, {"overloaded": 7})
    fast, quality = found.groups
    assert (quality.requests, quality.fallback_ratio, quality.failed_ratio) == (10, 0.25, 0.2)
    assert quality.reasons == {"rate_limited": 3, "timeout": 1}
    assert (fast.fallback_ratio, fast.failed_ratio, fast.reasons) == (0.0, 0.0, {})
    assert traffic({}).fallback_ratio is None


def test_a_counter_that_fell_began_again_at_zero() -> None:
    one, two = ("requests", "a"), ("requests", "b")
    assert increase({one: 3.0, two: 1.0}, {one: 5.0, two: 1.0}) == {one: 2.0, two: 0.0}
    assert increase({one: 3.0, two: 1.0}, {one: 2.0, two: 4.0}) == {one: 2.0, two: 4.0}, "not 3 for b"
    assert increase({}, {one: 2.0}) == {one: 2.0}


class Process:
    """A process of the pool: when it started, and what it has counted."""

    def __init__(self, started: float, ok: int = 0, degraded: int = 0) -> None:
        self.started, self.ok, self.degraded = started, ok, degraded

    def text(self) -> str:
        name = 'konstruct_llm_requests_total{outcome="ok",requested_group="quality"'
        return (
            "# TYPE konstruct_llm_requests_total counter\n"
            f'{name},served_group="quality"}} {self.ok}\n{name},served_group="fast"}} {self.degraded}\n'
            f"# TYPE konstruct_start_time_seconds gauge\nkonstruct_start_time_seconds {self.started}\n"
        )


class Address:
    """An address at which `process` answers, on a port of its own."""

    def __init__(self) -> None:
        self.process = Process(1.0)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(handler) -> None:  # noqa: N805 - `self` is the address
                handler.send_response(200)
                handler.end_headers()
                handler.wfile.write(self.process.text().encode())

            def log_message(handler, format: str, *args: Any) -> None:  # noqa: A002, N805 - inherited
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def addresses(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Address]]:
    made = [Address(), Address()]
    monkeypatch.setattr(replicas, "replica_urls", lambda _: [each.url for each in made])
    yield made
    for each in made:
        each.close()


def degraded(follower: Follower) -> tuple[int, int]:
    """Look, and return how many of the answers since the last look were degraded."""
    found = follower.look()
    assert found.interval is not None
    return found.interval.traffic.degraded, found.interval.traffic.answers


def test_every_replica_counts_and_one_that_starts_again_counts_from_zero(addresses: list[Address]) -> None:
    first, second = addresses
    first.process, second.process = Process(1.0, ok=100, degraded=50), Process(2.0, ok=10)
    follower = Follower(Settings())
    found = follower.look()
    assert (found.interval, found.since_start.fallback_ratio) == (None, 50 / 160)
    first.process.ok += 3
    second.process.degraded += 1
    found = follower.look()
    assert found.interval is not None
    (quality,) = found.interval.traffic.groups
    assert (quality.requests, quality.degraded, quality.fallback_ratio) == (4, 1, 0.25)
    assert quality.requests_per_s
    # In the place of the first another process started since: all that it counted is new.
    first.process = Process(9e9, ok=1, degraded=1)
    assert degraded(follower) == (1, 2)
    # The counters of a process that tells no new start fell: the same.
    second.process.ok, second.process.degraded = 0, 2
    assert degraded(follower) == (2, 2)
    assert follower.look().note is None


def test_a_replica_that_is_silent_or_new_is_not_made_up_for(addresses: list[Address]) -> None:
    first, second = addresses
    first.process, second.process = Process(1.0, ok=5), Process(2.0, ok=7)
    follower = Follower(Settings())
    follower.look()
    second.close()
    first.process.ok += 1
    found = follower.look()
    assert (found.addresses, found.silent) == (2, [second.url])
    assert found.interval is not None
    assert found.interval.traffic.answers == 1
    addresses[1] = new = Address()
    new.process = Process(3.0, ok=1000, degraded=1000)
    assert degraded(follower) == (0, 0), "it counted that before it was seen"
    new.process.degraded += 2
    assert degraded(follower) == (2, 2)


def test_processes_behind_one_address_are_told_apart_and_it_is_said(addresses: list[Address]) -> None:
    balanced = addresses[0]
    one, other = Process(1.0, ok=1000), Process(2.0, ok=10, degraded=10)
    follower = Follower(Settings())
    for process in (one, other, one, other):
        balanced.process = process
        found = follower.look()
        if found.interval is not None:
            assert found.interval.traffic.answers == 0, "nothing happened; their difference is no traffic"
    other.degraded += 4
    found = follower.look()
    assert found.interval is not None
    assert (found.interval.traffic.degraded, found.interval.traffic.answers) == (4, 4)
    assert found.note is not None
    assert "each look sees one of them" in found.note
    assert "KONSTRUCT_LLM_POOL_REPLICAS_URL" in found.note


def test_a_name_is_resolved_to_all_its_addresses_and_without_one_there_is_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = [(2, 1, 6, "", (ip, 8004)) for ip in ("10.0.0.2", "10.0.0.1", "10.0.0.2")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    every = Settings(llm_pool_url="http://pool:8004/", llm_pool_replicas_url="http://pool-replicas:8004")
    assert replicas.replica_urls(every) == ["http://10.0.0.1:8004", "http://10.0.0.2:8004"]
    assert replicas.replica_urls(Settings(llm_pool_url="http://pool:8004/")) == ["http://pool:8004"]


def test_one_line_says_what_is_wrong() -> None:
    status = StackStatus(
        ok=False,
        source="here",
        postgres=PartStatus(ok=False, problem="does not answer (OperationalError)"),
        redis=QueueStatus(ok=True, waiting=3),
        llm_pool=PoolStatus(url="http://x", ok=False, problem="does not answer (ConnectError)"),
        workers=[],
    )
    assert line(status).split("  ", 1)[1] == (
        "since the llm-pool started: no replies yet | workers 0/0 | in flight 0 | agents 0"
        " | PostgreSQL does not answer (OperationalError) | llm-pool does not answer (ConnectError)"
    )
