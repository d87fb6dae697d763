"""PostgreSQL is the backlog: a few messages of each tenant wait in Redis, the others in line, in turn."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import Engine

from orchestrator.errors import BacklogFullError
from orchestrator.recording import put_in_line, record_message
from orchestrator.sending import submit
from shared.config import Settings
from shared.db import get_session
from shared.models import KonstructMessage
from shared.reply import MessageStatus
from shared.rls import tenant_scope
from tests.support.database import Database
from tests.support.line import dispatch, record
from tests.support.stack_command import konstruct
from tests.support.waiting import eventually
from tests.support.worker import Cell, write_agent

FEW = Settings(tenant_queued=2, tenant_backlog=3)
"""Senders' limits that a test reaches."""

QUEUED = {"KONSTRUCT_TENANT_QUEUED": "2"}
"""The same, for a worker."""


def numbered(cell: Cell, count: int, tenant: str = "acme") -> list[KonstructMessage]:
    return [cell.message(f"{tenant} {number}", tenant_id=tenant) for number in range(count)]


def test_a_few_of_a_tenant_wait_in_redis_and_all_are_answered_in_order(cell: Cell) -> None:
    sent = numbered(cell, 40)
    receipts = [submit(message, on=cell.engine, settings=Settings(tenant_queued=2)) for message in sent]
    assert [receipt.queued for receipt in receipts] == [True] * 2 + [False] * 38
    assert cell.queued() == 2
    most, done = 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.001):
            most = max(most, cell.queued())

    watching = threading.Thread(target=watch)
    watching.start()
    cell.start_worker(KONSTRUCT_WORKER_CONCURRENCY="1", **QUEUED)
    assert {cell.reply(message).status for message in sent} == {MessageStatus.ANSWERED}
    done.set()
    watching.join()
    assert most == 2
    assert cell.pool.seen() == [message.text for message in sent]
    assert eventually(cell.settled)


def test_a_tenant_alone_has_every_thread(cell: Cell) -> None:
    cell.pool.gate.clear()
    for _ in range(2):
        cell.start_worker(KONSTRUCT_WORKER_CONCURRENCY="6", **QUEUED)
    cell.submit(*numbered(cell, 40))
    eventually(lambda: cell.pool.waiting == 12, what="both workers full of work")


def test_tenants_take_turns(cell: Cell) -> None:
    write_agent(cell.agents, "globex", "ada")
    many, few = numbered(cell, 30), numbered(cell, 4, "globex")
    for message in (*many, *few):
        submit(message, on=cell.engine, settings=FEW.model_copy(update={"tenant_backlog": 100}))
    cell.start_worker(KONSTRUCT_WORKER_CONCURRENCY="1", **QUEUED)
    for message in (*many, *few):
        cell.reply(message)
    last = max(place for place, said in enumerate(cell.pool.seen()) if said.startswith("globex"))
    assert last < 10, cell.pool.seen()


def test_a_thread_takes_one_place(cell: Cell) -> None:
    thread = [cell.message(f"talk {number}", thread_id="talk") for number in range(5)]
    other = cell.message("another thread")
    receipts = [submit(message, on=cell.engine) for message in thread]
    assert [receipt.queued for receipt in receipts] == [True, False, False, False, False]
    submit(other, on=cell.engine)
    cell.pool.gate.clear()
    cell.start_worker(**QUEUED)
    eventually(lambda: cell.pool.waiting == 2, what="both threads asking the pool")
    cell.pool.gate.set()
    for message in thread:
        assert cell.reply(message).status is MessageStatus.ANSWERED
    assert [said for said in cell.pool.seen() if said.startswith("talk")] == [m.text for m in thread]


def test_one_too_many_is_refused_and_loses_nothing(cell: Cell) -> None:
    write_agent(cell.agents, "globex", "ada")
    *accepted, refused = numbered(cell, 6)
    for message in accepted:
        submit(message, on=cell.engine, settings=FEW)
    with pytest.raises(BacklogFullError, match="3 messages of tenant acme wait to be answered"):
        submit(refused, on=cell.engine, settings=FEW)
    assert cell.database.rows("select count(*) from messages") == [(5,)]
    again = submit(accepted[-1], on=cell.engine, settings=FEW)
    assert (again.status, again.queued) == (MessageStatus.RECEIVED, False)
    theirs = cell.message("hello", tenant_id="globex")
    assert submit(theirs, on=cell.engine, settings=FEW).queued
    cell.start_worker(**QUEUED)
    for message in (*accepted, theirs):
        assert cell.reply(message).status is MessageStatus.ANSWERED
    submit(refused, on=cell.engine, settings=FEW)
    assert cell.reply(refused).status is MessageStatus.ANSWERED


def test_the_command_says_in_one_line_what_to_do(cell: Cell) -> None:
    limits = {"KONSTRUCT_TENANT_QUEUED": "1", "KONSTRUCT_TENANT_BACKLOG": "1"}
    environment = cell.environment(**limits)
    cell.submit(cell.message("first"))
    with tenant_scope("acme"), get_session(cell.engine) as session:
        record_message(session, cell.message("in line"), queued=False)
    sent = konstruct("send", "--tenant", "acme", "--agent", "ada", "hello", cwd=cell.folder, env=environment)
    assert sent.code == 1
    (line,) = sent.err.splitlines()
    assert line.endswith("nothing was recorded: submit it again when some are answered")


def test_a_dispatcher_that_dies_before_it_queues_loses_nothing(cell: Cell, system_engine: Engine) -> None:
    """What it had marked is in no queue, and the sweeper of another worker finds it."""
    sent = numbered(cell, 5)
    for message in sent:
        submit(message, on=cell.engine, settings=FEW)
    cell.broker.flushdb()
    assert len(dispatch(system_engine, free=3, per_tenant=5)) == 3
    assert cell.queued() == 0
    cell.start_worker(**QUEUED)
    assert {cell.reply(message).status for message in sent} == {MessageStatus.ANSWERED}
    assert "unfinished messages again" in cell.logs()
    assert eventually(cell.settled)


def test_places_go_in_turn_to_who_has_the_fewest(engine: Engine, system_engine: Engine) -> None:
    record(engine, "a1", "a2", "a3", "a4", "b1", "b2", "b3", "c1")
    assert dispatch(system_engine, free=4) == ["a1", "b1", "c1", "a2"]
    # a has two places, b one.
    assert dispatch(system_engine, free=2) == ["b2", "a3"]
    assert dispatch(system_engine, free=9) == ["b3", "a4"]
    assert dispatch(system_engine, free=9) == []


def test_a_tenant_that_has_no_place_never_waits_for_the_others(engine: Engine, system_engine: Engine) -> None:
    record(engine, "a1", "a2")
    assert dispatch(system_engine, free=1) == ["a1"]
    record(engine, "b1", "b2", "c1")
    assert dispatch(system_engine, free=0, most=1) == ["b1"]
    assert dispatch(system_engine, free=0) == ["c1"]
    assert dispatch(system_engine, free=0) == []


def test_no_tenant_has_more_places_than_it_may(
    engine: Engine, system_engine: Engine, database: Database
) -> None:
    record(engine, "a1", "a2", "a3", "a4")
    assert dispatch(system_engine, free=9, per_tenant=2) == ["a1", "a2"]
    assert dispatch(system_engine, free=9, per_tenant=2) == []
    # What is under way waits no more.
    database.execute(
        "update messages set owner = 'w', lease_expires_at = now() + interval '1 h' where message_id = 'a1'"
    )
    assert dispatch(system_engine, free=9, per_tenant=2) == ["a3"]


def test_only_the_first_of_a_thread_has_its_turn(
    engine: Engine, system_engine: Engine, database: Database
) -> None:
    record(engine, "a1", "a2", thread="one")
    record(engine, "a3")
    assert dispatch(system_engine, free=9) == ["a1", "a3"]
    assert dispatch(system_engine, free=9) == []
    database.execute("update messages set status = 'failed', finished_at = now() where message_id = 'a1'")
    assert dispatch(system_engine, free=9) == ["a2"]


def test_what_cannot_be_worked_on_lets_the_others_pass(
    engine: Engine, system_engine: Engine, database: Database
) -> None:
    first, *_ = record(engine, "a1", "a2", "a3")
    with tenant_scope("a"):
        assert put_in_line(first, after_s=3600, on=engine)
    database.execute("update messages set deaths = 2 where message_id = 'a2'")  # the quarantine's
    assert dispatch(system_engine, free=9, per_tenant=1) == ["a3"]
    database.execute("update messages set due_at = now() where message_id = 'a1'")
    assert dispatch(system_engine, free=9) == ["a1"]


def test_nobody_works_on_what_is_put_in_line(engine: Engine, database: Database) -> None:
    (message,) = record(engine, "a1")
    database.execute("update messages set owner = 'w', lease_expires_at = now()")
    with tenant_scope("a"):
        assert not put_in_line(message, on=engine)
