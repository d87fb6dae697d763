"""However deep a thread is, the others of its tenant have their turn, and each message ends."""

from __future__ import annotations

import psycopg
import pytest
from sqlalchemy import Engine, text

from orchestrator.recording import put_in_line
from shared.models import KonstructMessage
from shared.reply import MessageStatus
from shared.rls import tenant_scope
from tests.support.database import Database
from tests.support.line import dispatch, fill, stranded
from tests.support.waiting import eventually
from tests.support.worker import Cell

SHAPES = {
    "one deep thread": "select 'a', 'deep' from generate_series(1, 20000) n",
    "many threads": "select 'a', 't' || n from generate_series(1, 20000) n",
    "half of each, the deep one oldest": (
        "select 'a', case when n <= 10000 then 'deep' else 't' || n end from generate_series(1, 20000) n"
    ),
    "500 tenants": "select 'tenant' || n % 500, 'deep' from generate_series(1, 20000) n",
}
"""What may wait: (tenant, thread) of each message, in order."""

SHIPPED = {"KONSTRUCT_WORKER_CONCURRENCY": "32", "KONSTRUCT_LEASE_S": "5", "KONSTRUCT_DRAIN_S": "10"}
"""The defaults of what a cell's workers are otherwise given less of."""

DEEP = "select 'acme', 'deep' from generate_series(1, 1200) n"
"""One thread of more messages than the 1,000 that a look at the line once stopped at."""


@pytest.mark.parametrize("shape", SHAPES)
def test_a_look_reads_only_the_first_of_their_threads(database: Database, shape: str) -> None:
    """Pages, not seconds; what the planner knows is of an empty table, then up to date."""
    database.execute("analyze messages")
    fill(database, SHAPES[shape])
    most = 500 * 20 if shape == "500 tenants" else 100
    look = "select * from konstruct_dispatch(8, 8, 2, 200)"
    assert pages_read(database, look) < most
    database.execute("analyze messages")
    assert pages_read(database, look) < most


def test_reading_what_waits_would_be_seen(database: Database) -> None:
    fill(database, SHAPES["one deep thread"])
    assert pages_read(database, "select sum(length(text)) from messages") > 250


def pages_read(database: Database, query: str) -> int:
    """Run `query` three times, and return what the last one read: the first reads the catalogue as well."""
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        *_, row = [
            connection.execute(f"explain (analyze, buffers, format json) {query}").fetchall()
            for _ in range(3)
        ]
    plan = row[0][0][0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def test_a_deep_thread_put_back_holds_nobody_up(
    database: Database, engine: Engine, system_engine: Engine
) -> None:
    fill(
        database,
        "select 'a', case when n <= 1200 then 'deep' else 'other' end from generate_series(1, 1201) n",
    )
    assert dispatch(system_engine, free=9) == ["m1", "m1201"]
    head = KonstructMessage(
        tenant_id="a", message_id="m1", thread_id="deep", agent="ada", sender="sam", text="hi"
    )
    with tenant_scope("a"):
        assert put_in_line(head, after_s=2, on=engine)
    assert dispatch(system_engine, free=9) == []
    database.execute("update messages set due_at = now() where message_id = 'm1'")
    assert dispatch(system_engine, free=9) == ["m1"]
    for number in range(1, 1201):
        if number > 1:
            assert dispatch(system_engine, free=9) == [f"m{number}"]
        database.execute(
            f"update messages set status = 'failed', finished_at = now() where message_id = 'm{number}'"
        )
    assert stranded(system_engine) == []


def test_a_follower_that_is_recorded_while_the_first_finishes_has_its_turn(
    database: Database, system_engine: Engine
) -> None:
    """Whichever commits first."""
    insert = (
        "insert into messages (tenant_id, thread_id, message_id, agent, sender, channel, text, sent_at,"
        " queued_at) values ('a', 'deep', 'm2', 'ada', 'sam', 'api', 'hi', now(), null)"
    )
    finish = "update messages set status = 'failed', finished_at = now() where message_id = 'm1'"
    for first, second in ((insert, finish), (finish, insert)):
        database.execute("truncate messages")
        fill(database, "select 'a', 'deep'")
        with (
            psycopg.connect(database.superuser_url) as one,
            psycopg.connect(database.superuser_url, autocommit=True) as other,
        ):
            one.execute(first)
            other.execute("set lock_timeout = '200ms'")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                other.execute(second)
            one.commit()
            other.execute(second)
        assert stranded(system_engine) == []
        assert dispatch(system_engine, free=9) == ["m2"]


@pytest.mark.parametrize(
    "harm",
    [
        "leads = false",
        "due_at = now() + interval '1 day'",
        "queued_at = now() + interval '1 day'",
        "owner = 'w', lease_expires_at = now() + interval '1 day', queued_at = now()",
    ],
)
def test_what_nothing_would_touch_is_found_and_mended(
    database: Database, system_engine: Engine, harm: str
) -> None:
    """A mark that is missing, and times that a clock wrote before it was set back."""
    fill(database, "select 'a', 'deep' from generate_series(1, 3) n")
    assert stranded(system_engine) == []
    database.execute(f"update messages set {harm} where message_id = 'm1'")
    assert stranded(system_engine) == ["m1"]
    with system_engine.begin() as connection:
        assert connection.execute(text("select konstruct_mend(60)")).scalar_one() == 1
        assert connection.execute(text("select konstruct_mend(60)")).scalar_one() == 0
    assert stranded(system_engine) == []


def test_other_threads_are_answered_beside_a_deep_one(cell: Cell) -> None:
    fill(cell.database, DEEP)
    cell.pool.gate.clear()  # the deep thread does not move
    cell.start_worker(**SHIPPED)
    others = [cell.message(f"other {number}") for number in range(6)]
    cell.submit(*others)
    eventually(
        lambda: cell.pool.waiting == 7, what="the other threads, and the deep one's first, at the pool"
    )
    cell.pool.gate.set()
    for message in others:
        assert cell.reply(message).status is MessageStatus.ANSWERED


def test_a_head_that_is_put_back_behind_its_followers_comes_again(cell: Cell) -> None:
    """Put back in line, it is due after 1,199 others that cannot be worked on before it."""
    fill(cell.database, DEEP)
    first, *followers = (
        cell.message("hi", message_id=f"m{number}", thread_id="deep", channel="api")
        for number in range(1, 11)
    )
    with tenant_scope("acme"):
        assert put_in_line(first, after_s=2, on=cell.engine)
    cell.start_worker(**SHIPPED)
    other = cell.message("another thread")
    cell.submit(other)
    for message in (other, first, *followers):
        assert cell.reply(message).status is MessageStatus.ANSWERED


def test_a_worker_puts_what_is_stranded_back_in_line(cell: Cell) -> None:
    """It looks every 30 s."""
    fill(cell.database, "select 'acme', 'deep'")
    cell.database.execute("update messages set leads = false")
    cell.start_worker(**SHIPPED)
    message = cell.message("hi", message_id="m1", thread_id="deep")
    assert cell.reply(message, within_s=90).status is MessageStatus.ANSWERED
    assert "would have waited for ever" in cell.logs()


def test_a_test_that_strands_a_message_fails(database: Database) -> None:
    """What the fixture `database` asks after each test."""
    fill(database, "select 'a', 'deep' from generate_series(1, 3) n")
    database.execute("update messages set leads = false where message_id = 'm1'")
    assert database.stranded() == ["m1"]
    database.execute("delete from messages")
