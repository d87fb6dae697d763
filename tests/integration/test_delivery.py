"""Delivery with real workers, a real broker and a real database: nothing lost, nothing answered twice."""

from __future__ import annotations

import os
import signal
from collections import Counter

import pytest

from orchestrator.errors import MessageConflictError
from orchestrator.main import app
from orchestrator.recording import record_message
from orchestrator.sending import submit
from shared.db import get_session
from shared.reply import MessageStatus, Reply
from shared.rls import tenant_scope
from tests.support.waiting import eventually
from tests.support.worker import Cell, write_agent


def test_the_reply_is_returned_and_stored_alike(cell: Cell) -> None:
    cell.start_worker()
    message = cell.message("hello")
    returned = app.AsyncResult(cell.deliver(message.model_dump(mode="json"))).get(timeout=30)
    stored = cell.reply(message)
    assert Reply.model_validate(returned) == stored
    assert (stored.status, stored.text, stored.model) == ("answered", "You said: hello", "stub-1")
    assert (stored.requested_group, stored.served_group, stored.degraded) == ("quality", "quality", False)
    assert stored.revision
    assert stored.prompt_sha256
    assert stored.usage
    row = cell.database.rows(
        "select attempt, deaths, cost_usd, pool_latency_ms, pool_attempts, started_at >= received_at"
        " from messages"
    )
    attempts = [{"deployment": "stub/stub-1", "group": "quality", "outcome": "ok", "ms": 1.5}]
    assert [(*r[:2], float(str(r[2])), *r[3:]) for r in row] == [(1, 0, 0.0001, 2.0, attempts, True)]
    assert eventually(cell.settled)


def test_the_revision_that_spoke_is_kept(cell: Cell) -> None:
    cell.start_worker()
    message = cell.message("hello")
    cell.submit(message)
    reply = cell.reply(message)
    rows = cell.database.rows(
        "select r.revision, r.prompt_sha256, r.transparency_clause, a.active_revision"
        " from agent_revisions r join agents a using (tenant_id, agent)"
    )
    assert rows == [(reply.revision, reply.prompt_sha256, reply.transparency_clause, reply.revision)]


def test_what_another_delivery_says_under_its_id_is_not_answered_in_its_place(cell: Cell) -> None:
    message = cell.message("the one that was accepted")
    with tenant_scope("acme"), get_session(cell.engine) as session:
        record_message(session, message)
    forged = cell.deliver({**message.model_dump(mode="json"), "text": "another"})
    cell.start_worker()
    assert app.AsyncResult(forged).get(timeout=30)["reason"] == "message_conflict"
    assert cell.reply(message, within_s=20).text == "You said: the one that was accepted"
    assert cell.pool.seen() == ["the one that was accepted"]


def test_one_message_delivered_twice_at_once_has_one_reply(cell: Cell) -> None:
    cell.start_worker()
    cell.start_worker()
    cell.pool.gate.clear()
    message = cell.message("only once")
    payload = message.model_dump(mode="json")
    deliveries = [cell.deliver(payload) for _ in range(2)]
    eventually(lambda: cell.pool.waiting == 1, what="the first delivery asking the pool")
    eventually(
        lambda: "another worker holds it" in cell.logs() or cell.queued() + cell.unacked() >= 2,
        what="the second delivery waiting",
    )
    cell.pool.gate.set()
    replies = [app.AsyncResult(delivery).get(timeout=30) for delivery in deliveries]
    assert replies[0] == replies[1]
    assert cell.pool.seen() == ["only once"]
    assert cell.database.rows("select attempt, status from messages") == [(1, "answered")]
    assert eventually(cell.settled)


def test_the_second_delivery_answers_when_the_first_worker_is_killed(cell: Cell) -> None:
    # One at a time: the second delivery stays in the queue, for the second worker.
    first = cell.start_worker(KONSTRUCT_WORKER_CONCURRENCY="1")
    cell.pool.gate.clear()
    message = cell.message("survive")
    payload = message.model_dump(mode="json")
    cell.deliver(payload)
    eventually(lambda: cell.pool.waiting == 1, what="the first worker asking the pool")
    cell.start_worker()
    cell.deliver(payload)
    os.kill(first.pid, signal.SIGKILL)
    cell.pool.gate.set()
    reply = cell.reply(message)
    assert reply.status == MessageStatus.ANSWERED
    assert cell.database.rows("select attempt, deaths from messages") == [(2, 1)]


def test_a_killed_workers_only_copy_is_queued_again_within_seconds(cell: Cell) -> None:
    # As in production: the broker itself would deliver it again after nearly two minutes.
    production = {"KONSTRUCT_LEASE_S": "5"}
    first = cell.start_worker(**production)
    second = cell.start_worker(KONSTRUCT_WORKER_CONCURRENCY="1", **production)
    cell.pool.gate.clear()
    sent = [cell.message(f"number {number}") for number in range(6)]
    cell.submit(*sent)
    eventually(lambda: cell.pool.waiting == 6, what="both workers asking the pool")
    os.kill(first.pid, signal.SIGKILL)
    eventually(lambda: first.exit_code() is not None, what="the first worker's end")
    cell.pool.gate.set()
    assert {cell.reply(message, within_s=15).status for message in sent} == {MessageStatus.ANSWERED}
    assert "unfinished messages again" in second.log.read_text()


def test_what_a_killed_worker_had_taken_and_not_claimed_is_queued_again(cell: Cell) -> None:
    """The broker still has it among the deliveries that somebody holds, for nearly two minutes."""
    message = cell.message("taken")
    with tenant_scope("acme"), get_session(cell.engine) as session:
        record_message(session, message)
    cell.broker.hset("unacked", "a-dead-workers", "[]")
    cell.start_worker()
    assert cell.reply(message, within_s=20).status is MessageStatus.ANSWERED


def test_what_is_put_back_again_and_again_waits_its_turn(cell: Cell) -> None:
    cell.start_worker()
    cell.pool.gate.clear()
    first, second = (cell.message(text, thread_id="one") for text in ("first", "second"))
    cell.submit(first)
    eventually(lambda: cell.pool.waiting == 1, what="the worker asking the pool")
    cell.deliver(second.model_dump(mode="json"))
    in_line = "select queued_at is null from messages where text = 'second'"
    eventually(lambda: cell.database.rows(in_line) == [(True,)], what="a delivery let go of")
    eventually(lambda: (cell.queued(), cell.unacked()) == (0, 1), what="one delivery")
    cell.pool.gate.set()
    assert cell.reply(second).status is MessageStatus.ANSWERED
    assert "unfinished messages again" not in cell.logs()
    assert eventually(cell.settled)


def test_what_was_recorded_and_never_queued_is_answered(cell: Cell) -> None:
    """As if its sender had died in between; the next of its thread waits for it."""
    cell.start_worker()
    first, second = (cell.message(text, thread_id="one") for text in ("first", "second"))
    with tenant_scope("acme"), get_session(cell.engine) as session:
        record_message(session, first)
    cell.submit(second)
    assert cell.reply(second).status is MessageStatus.ANSWERED
    assert cell.pool.seen() == ["first", "second"]
    assert eventually(cell.settled)


def test_sigterm_under_load_loses_nothing(cell: Cell) -> None:
    first = cell.start_worker()
    messages = [cell.message(f"number {number}") for number in range(40)]
    cell.submit(*messages[:8])
    eventually(lambda: len(cell.pool.requests) >= 8, what="the first eight being answered")
    cell.pool.gate.clear()
    cell.submit(*messages[8:])
    eventually(lambda: cell.pool.waiting == 8, what="a worker full of work")
    os.kill(first.pid, signal.SIGTERM)
    eventually(lambda: first.exit_code() is not None, what="the first worker's end")
    assert first.exit_code() == 0
    assert cell.unacked() == 0
    assert cell.database.rows("select count(*) from messages where owner is not null") == [(0,)]
    cell.pool.gate.set()
    cell.start_worker()
    replies = [cell.reply(message) for message in messages]
    assert {reply.status for reply in replies} == {MessageStatus.ANSWERED}
    assert [reply.text for reply in replies] == [f"You said: number {number}" for number in range(40)]
    # Handing work back is nobody's death.
    assert cell.database.rows("select sum(deaths) from messages") == [(0,)]
    assert eventually(cell.settled)


def test_work_that_ends_within_the_drain_time_is_not_handed_back(cell: Cell) -> None:
    worker = cell.start_worker(KONSTRUCT_DRAIN_S="30")
    cell.pool.gate.clear()
    message = cell.message("nearly done")
    cell.submit(message)
    eventually(lambda: cell.pool.waiting == 1, what="the worker asking the pool")
    os.kill(worker.pid, signal.SIGTERM)
    eventually(lambda: "shutting down" in cell.logs(), what="the drain")
    cell.pool.gate.set()
    eventually(lambda: worker.exit_code() is not None, what="the worker's end")
    assert worker.exit_code() == 0
    assert cell.reply(message).status == MessageStatus.ANSWERED
    assert len(cell.pool.requests) == 1
    assert cell.settled()


def test_messages_of_a_thread_are_answered_in_order_and_see_each_other(cell: Cell) -> None:
    cell.start_worker()
    cell.start_worker()
    messages = [cell.message(text, thread_id="talk") for text in ("one", "two", "three")]
    cell.submit(*messages)
    for message in messages:
        assert cell.reply(message).status == MessageStatus.ANSWERED
    assert cell.pool.seen() == ["one", "two", "three"]
    turns = [(turn.role, turn.content) for turn in cell.pool.requests[2].messages[1:]]
    assert turns == [
        ("user", "one"),
        ("assistant", "You said: one"),
        ("user", "two"),
        ("assistant", "You said: two"),
        ("user", "three"),
    ]


def test_threads_do_not_wait_for_each_other(cell: Cell) -> None:
    cell.start_worker()
    cell.pool.gate.clear()
    cell.submit(*(cell.message(f"thread {number}") for number in range(6)))
    eventually(lambda: cell.pool.waiting == 6, what="six threads asking at once")


def test_threads_of_one_name_in_two_tenants_are_two(cell: Cell) -> None:
    write_agent(cell.agents, "globex", "ada")
    cell.start_worker()
    cell.pool.gate.clear()
    ours, theirs = (
        cell.message("hello", tenant_id=tenant, thread_id="same") for tenant in ("acme", "globex")
    )
    cell.submit(ours, theirs)
    eventually(lambda: cell.pool.waiting == 2, what="both being worked on at once")
    cell.pool.gate.set()
    assert cell.reply(ours).status == cell.reply(theirs).status == MessageStatus.ANSWERED
    assert all(len(request.messages) == 2 for request in cell.pool.requests)


def test_submitting_again_is_the_same_message(cell: Cell) -> None:
    message = cell.message("hello", message_id="m-1")
    assert submit(message, on=cell.engine).status == MessageStatus.RECEIVED
    assert submit(message, on=cell.engine).status == MessageStatus.RECEIVED
    cell.start_worker()
    first = cell.reply(message)
    assert submit(message, on=cell.engine).status == MessageStatus.ANSWERED
    assert eventually(cell.settled)
    assert cell.reply(message) == first
    assert len(cell.pool.requests) == 1


def test_another_message_under_a_taken_id_is_refused(cell: Cell) -> None:
    cell.submit(cell.message("hello", message_id="m-1", thread_id="t"))
    other = cell.message("something else", message_id="m-1", thread_id="t")
    with pytest.raises(MessageConflictError, match="new id"):
        submit(other, on=cell.engine)
    cell.start_worker()
    result = app.AsyncResult(cell.deliver(other.model_dump(mode="json"))).get(timeout=30)
    assert (result["status"], result["reason"]) == ("failed", "message_conflict")
    assert cell.reply(other).text == "You said: hello"


def test_a_hundred_messages_of_two_tenants_keep_apart(cell: Cell) -> None:
    for tenant in ("acme", "globex"):
        write_agent(cell.agents, tenant, "ada", prompt=f"You work for {tenant} alone.")
    cell.start_worker(KONSTRUCT_WORKER_CONCURRENCY="32")
    messages = [
        cell.message(f"{tenant} {number}", tenant_id=tenant, thread_id=f"{number % 10}")
        for number in range(50)
        for tenant in ("acme", "globex")
    ]
    cell.submit(*messages)
    for message in messages:
        assert cell.reply(message, within_s=60).text == f"You said: {message.text}"
    for request in cell.pool.requests:
        other = {"acme": "globex", "globex": "acme"}[request.tenant_id]
        assert all(other not in turn.content for turn in request.messages)
    assert Counter(cell.pool.seen()) == Counter(message.text for message in messages)
    mixed = "select count(*) from messages where reply not like '%%' || tenant_id || '%%'"
    assert cell.database.rows(mixed) == [(0,)]


def test_no_text_of_a_conversation_is_logged_or_shown_to_monitoring(cell: Cell) -> None:
    cell.start_worker()
    cell.pool.gate.clear()
    message = cell.message("a-very-private-word")
    cell.submit(message)
    eventually(lambda: cell.pool.waiting == 1)
    active = app.control.inspect(timeout=5).active()
    assert active
    shown = [task["args"] for tasks in active.values() for task in tasks]
    assert "a-very-private-word" not in str([task.get("argsrepr") for t in active.values() for task in t])
    assert shown
    cell.pool.gate.set()
    cell.reply(message)
    assert eventually(cell.settled)
    assert "a-very-private-word" not in cell.logs()
