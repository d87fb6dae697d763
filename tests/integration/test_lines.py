"""However deep a thread is, the others of its tenant have their turn, and each message ends."""

from __future__ import annotations

import time

import psycopg
import pytest
from sqlalchemy import Engine, text

from orchestrator.recording import put_in_line
from shared.models import KonstructMessage
from shared.rls import tenant_scope
from tests.support.database import Database
from tests.support.line import dispatch, fill, stranded
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

LOOK_MS = 100
"""Far less than a plan takes that reads the followers; an idle machine needs a few."""


@pytest.mark.parametrize("shape", SHAPES)
def test_a_look_reads_only_the_first_of_their_threads(database: Database, shape: str) -> None:
    database.execute("analyze messages")  # while it is empty: what the planner knows is out of date
    fill(database, SHAPES[shape])
    for known in ("out of date", "up to date"):
        if known == "up to date":
            database.execute("analyze messages")
        took = []
        with psycopg.connect(database.superuser_url) as connection:
            for _ in range(5):
                started = time.perf_counter()
                found = connection.execute("select from konstruct_dispatch(64, 64, 2, 200)").fetchall()
                took.append(1000 * (time.perf_counter() - started))
                connection.rollback()
                assert found
        assert min(took) < LOOK_MS, known


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
        if number == 5:
            break
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
    fill(cell.database, "select 'acme', 'deep' from generate_series(1, 1200) n")
    cell.start_worker()
    other = cell.message("hello")
    cell.submit(other)
    assert cell.reply(other, within_s=15).text
