"""The worker's metrics: what they count is what PostgreSQL recorded, on series that were there before."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter

import pytest

from konstruct_cli.stack.process import claim_port
from tests.support.metrics import Samples, scrape, total
from tests.support.pool import Exchange, StubPool, echo
from tests.support.waiting import eventually
from tests.support.worker import Cell, write_agent

MESSAGES = "konstruct_messages_total"


@pytest.fixture
def url(cell: Cell) -> str:
    """Start a worker with 32 threads, as it is by default, and return where its metrics are."""
    write_agent(cell.agents, "acme", "sleepy", more="suspended: true")
    port = claim_port("the worker's metrics", None)
    settings = {"KONSTRUCT_WORKER_CONCURRENCY": "32", "KONSTRUCT_DRAIN_S": "20"}
    cell.start_worker(KONSTRUCT_WORKER_LISTEN=f"127.0.0.1:{port}", **settings)
    return f"http://127.0.0.1:{port}"


def finished(url: str, count: int) -> Samples:
    """Wait until the worker has counted so many messages; a reply is recorded before it is counted."""
    eventually(lambda: total(scrape(url), MESSAGES) >= count, within_s=60, what=f"{count} counted messages")
    return scrape(url)


def fail_some(pool: StubPool, exchange: Exchange) -> None:
    """Answer, unless the message asks for a failure."""
    if exchange.request.messages[-1].content != "fail":
        echo(pool, exchange)
        return
    problem = {"type": "urn:x", "title": "t", "status": 503, "detail": "d", "code": "providers_failed"}
    exchange.send(503, json.dumps(problem).encode(), "application/problem+json")


def test_they_agree_exactly_with_what_was_recorded(cell: Cell, url: str) -> None:
    """All that can become of a message, by 32 threads at once."""
    before = scrape(url)
    cell.pool.answer = fail_some
    taken = cell.message("the first")
    cell.submit(taken)
    payloads = [
        *(cell.message("hello").model_dump(mode="json") for _ in range(120)),
        *(cell.message("hello", thread_id="long").model_dump(mode="json") for _ in range(10)),
        *(cell.message("fail").model_dump(mode="json") for _ in range(40)),
        *(cell.message("hello", agent="nobody").model_dump(mode="json") for _ in range(20)),
        *(cell.message("hello", agent="sleepy").model_dump(mode="json") for _ in range(20)),
        *({**cell.message("x").model_dump(mode="json"), "text": ""} for _ in range(10)),
        *({**cell.message("x").model_dump(mode="json"), "tenant_id": "../x"} for _ in range(5)),
        *({**taken.model_dump(mode="json"), "text": "another"} for _ in range(3)),
    ]
    finished(url, 1)
    for payload in payloads:
        cell.deliver(payload)
    cell.deliver(taken.model_dump(mode="json"))  # the same once more: it is finished, and counts no more
    samples = finished(url, 221)
    assert eventually(cell.settled)
    samples = scrape(url)

    recorded = cell.database.rows("select status, reason from messages")
    assert len(recorded) == 221
    for status, count in Counter(status for status, _ in recorded).items():
        assert total(samples, MESSAGES, outcome=str(status)) == count
    reasons = Counter(reason for _, reason in recorded if reason is not None)
    assert reasons == {
        "providers_failed": 40, "agent_unknown": 20, "agent_suspended": 20, "message_invalid": 10
    }  # fmt: skip
    for reason, count in reasons.items():
        assert total(samples, "konstruct_apologies_total", reason=str(reason)) == count
    assert total(samples, "konstruct_apologies_total") == reasons.total()
    refused = "konstruct_deliveries_refused_total"
    assert total(samples, refused, reason="message_invalid") == 5
    assert total(samples, refused, reason="message_conflict") == 3
    claimed = len(recorded) - 10
    assert samples["konstruct_message_duration_seconds_count"] == claimed
    assert samples["konstruct_message_queue_seconds_count"] == claimed
    assert samples["konstruct_deliveries_put_back_total"] > 0  # the thread's, one at a time
    assert samples["konstruct_messages_in_flight"] == 0
    assert samples.keys() == before.keys(), "a series appeared that was not made at the start"


def test_what_it_is_and_does(cell: Cell, url: str) -> None:
    samples = scrape(url)
    assert total(samples, "konstruct_build_info", component="worker") == 1
    assert samples["konstruct_worker_accepting"] == samples["konstruct_worker_consuming"] == 1
    assert samples["konstruct_messages_in_flight_limit"] == 32
    assert samples["konstruct_agents_loaded"] == 2
    cell.pool.gate.clear()
    cell.submit(*(cell.message("hello") for _ in range(40)))
    eventually(lambda: scrape(url)["konstruct_messages_in_flight"] == 32, what="every thread at work")
    eventually(lambda: scrape(url)["konstruct_backlog_messages"] > 0, what="a look at what waits")
    cell.pool.gate.set()
    finished(url, 40)


def test_the_longest_line_is_that_of_one_tenant(cell: Cell, url: str) -> None:
    write_agent(cell.agents, "globex", "ada")
    cell.pool.gate.clear()
    cell.submit(*(cell.message("hello") for _ in range(60)))
    cell.submit(*(cell.message("hello", tenant_id="globex") for _ in range(40)))

    def waiting() -> tuple[float, float]:
        samples = scrape(url)
        return samples["konstruct_backlog_messages"], samples["konstruct_tenant_backlog_messages"]

    eventually(lambda: waiting()[0] == 60 + 40 - 32, what="a look at what waits")
    lines = cell.database.rows(
        "select count(*) from messages where status = 'received' and queued_at is null"
        " group by tenant_id order by 1"
    )
    assert len(lines) == 2
    assert waiting() == (68, lines[-1][0])
    assert scrape(url)["konstruct_tenant_backlog_limit"] == 20_000
    cell.pool.gate.set()
    finished(url, 100)
    eventually(lambda: waiting() == (0, 0), what="nothing that waits")


def test_a_worker_that_shuts_down_consumes_nothing(cell: Cell, url: str) -> None:
    cell.pool.gate.clear()
    message = cell.message("hello")
    cell.submit(message)
    eventually(lambda: cell.pool.waiting == 1, what="a message under way")
    os.kill(cell.workers[0].pid, signal.SIGTERM)
    eventually(lambda: scrape(url)["konstruct_worker_consuming"] == 0, what="a worker that drains")
    assert scrape(url)["konstruct_worker_accepting"] == 0
    cell.pool.gate.set()
    assert cell.reply(message).status == "answered"
