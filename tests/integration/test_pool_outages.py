"""The llm-pool away, with real workers: its messages wait for it within their time, and no longer."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from konstruct_cli.stack.process import claim_port
from shared.reply import MessageStatus
from tests.support.metrics import scrape, total
from tests.support.tcp_proxy import Mode, TcpProxy
from tests.support.waiting import eventually
from tests.support.worker import Cell


@pytest.fixture
def link(cell: Cell) -> Iterator[TcpProxy]:
    """The way from workers to the pool."""
    with TcpProxy(cell.pool.server.server_address[1]) as proxy:
        yield proxy


def over(link: TcpProxy) -> str:
    return f"http://127.0.0.1:{link.port}"


def test_messages_outlive_an_outage_of_the_pool(cell: Cell, link: TcpProxy) -> None:
    listen = f"127.0.0.1:{claim_port('metrics', None)}"
    cell.start_worker(KONSTRUCT_LLM_POOL_URL=over(link), KONSTRUCT_WORKER_LISTEN=listen)
    link.set(Mode.REFUSE)
    sent = [cell.message(f"number {number}") for number in range(16)]
    cell.submit(*sent)
    eventually(lambda: scrape(f"http://{listen}")["konstruct_pool_away"] == 1, what="finding it away")
    link.set(Mode.PASS)
    assert {cell.reply(message).status for message in sent} == {MessageStatus.ANSWERED}
    assert cell.database.rows("select max(attempt) from messages") == [(1,)]
    samples = scrape(f"http://{listen}")
    assert samples["konstruct_pool_away"] == 0
    assert total(samples, "konstruct_pool_retries_total") >= 1
    log = cell.logs()
    assert log.count("the llm-pool is away") == log.count("the llm-pool is back") >= 1


def test_after_its_time_a_message_is_apologised_for(cell: Cell, link: TcpProxy) -> None:
    cell.start_worker(KONSTRUCT_LLM_POOL_URL=over(link), KONSTRUCT_MESSAGE_DEADLINE_S="6")
    link.set(Mode.REFUSE)
    sent = [cell.message(f"number {number}") for number in range(4)]
    cell.submit(*sent)
    replies = [cell.reply(message) for message in sent]
    assert {(reply.status, reply.reason) for reply in replies} == {("apologised", "pool_unreachable")}
    assert eventually(cell.settled)


def test_a_black_hole_costs_no_more_than_the_messages_time(cell: Cell, link: TcpProxy) -> None:
    cell.start_worker(KONSTRUCT_LLM_POOL_URL=over(link), KONSTRUCT_MESSAGE_DEADLINE_S="6")
    link.set(Mode.BLACKHOLE)
    lost, later = cell.message("lost"), cell.message("later")
    cell.submit(lost)
    reply = cell.reply(lost)
    assert (reply.status, reply.reason) == ("apologised", "deadline_exceeded")
    link.set(Mode.PASS)
    cell.submit(later)
    assert cell.reply(later).status is MessageStatus.ANSWERED


def test_what_waits_for_the_pool_is_handed_back_at_once(cell: Cell, link: TcpProxy) -> None:
    """The drain time is for what may still end in it."""
    drain_s = 60
    first = cell.start_worker(KONSTRUCT_LLM_POOL_URL=over(link), KONSTRUCT_DRAIN_S=str(drain_s))
    link.set(Mode.REFUSE)
    message = cell.message("hello")
    cell.submit(message)
    eventually(lambda: "the llm-pool is away" in cell.logs(), what="a message that waits")
    began = time.monotonic()
    os.kill(first.pid, signal.SIGTERM)
    eventually(lambda: first.exit_code() is not None, within_s=drain_s, what="the worker's end")
    assert time.monotonic() - began < drain_s / 2
    assert cell.unacked() == 0
    assert cell.database.rows("select status, owner, deaths from messages") == [("received", None, 0)]
    cell.start_worker()  # on a way of its own
    assert cell.reply(message).status is MessageStatus.ANSWERED
