"""When PostgreSQL takes a delivery for lost while Redis holds enough of them."""

from __future__ import annotations

from sqlalchemy import Engine

from orchestrator.messages import Claim, claim
from shared.rls import tenant_scope
from tests.support.database import Database
from tests.support.line import dispatch, reclaim, record


def queued(database: Database, name: str, ago: float, *, claimed: float | None = None) -> None:
    """Let a message have been queued and, if it was, claimed by a worker that works on it, seconds ago."""
    held = "owner = 'w', lease_expires_at = now() + interval '1 h'," if claimed is not None else ""
    database.execute(
        f"update messages set {held} queued_at = now() - interval '{ago} s',"
        f" started_at = now() - interval '{claimed or 0} s' where message_id = '{name}'"
    )


def test_what_waits_for_long_is_not_lost_until_later_ones_are_claimed(
    engine: Engine, system_engine: Engine, database: Database
) -> None:
    record(engine, "a1", "a2", "b1")
    queued(database, "a1", 60)
    queued(database, "a2", 59)
    queued(database, "b1", 58)
    assert reclaim(system_engine) == 0, "they wait behind slow answers"
    queued(database, "a2", 59, claimed=0.5)
    assert reclaim(system_engine) == 0, "the claim of the first may be under way"
    queued(database, "a2", 59, claimed=2)
    assert reclaim(system_engine) == 1
    assert dispatch(system_engine, free=9) == ["a1"]
    assert reclaim(system_engine) == 0, "it waits again, once"


def test_a_finished_message_tells_for_seconds_that_it_was_claimed(
    engine: Engine, system_engine: Engine, database: Database
) -> None:
    record(engine, "a1", "b1")
    queued(database, "a1", 60)
    queued(database, "b1", 20, claimed=10)
    finish = "update messages set status = 'failed', owner = null, lease_expires_at = null, finished_at ="
    database.execute(f"{finish} now() - interval '6 s' where message_id = 'b1'")
    assert reclaim(system_engine) == 0
    database.rewrite("update messages set finished_at = now() - interval '4 s' where message_id = 'b1'")
    assert reclaim(system_engine) == 1


def test_what_was_queued_lately_is_waited_for(
    engine: Engine, system_engine: Engine, database: Database
) -> None:
    record(engine, "a1", "b1")
    queued(database, "a1", 4)
    queued(database, "b1", 3, claimed=2)
    assert reclaim(system_engine) == 0


def test_what_may_have_more_than_one_delivery_proves_nothing(
    engine: Engine, system_engine: Engine, database: Database
) -> None:
    record(engine, "a1", "b1")
    queued(database, "b1", 60)
    assert reclaim(system_engine, held=0) == 1
    queued(database, "a1", 50)
    queued(database, "b1", 20, claimed=10)  # by the first of its two deliveries, as far as anybody knows
    assert reclaim(system_engine) == 0


def test_a_delivery_past_submit_proves_nothing(
    engine: Engine, system_engine: Engine, database: Database
) -> None:
    (waiting,) = record(engine, "a1")
    queued(database, "a1", 60)
    with tenant_scope("b"):
        direct = waiting.model_copy(update={"tenant_id": "b", "message_id": "b1"})
        assert isinstance(claim(direct, "w", 60, 2, on=engine), Claim)
    database.execute(
        "update messages set queued_at = queued_at - interval '9 s', started_at = started_at - interval '9 s'"
        " where message_id = 'b1'"
    )
    assert reclaim(system_engine) == 0


def test_what_is_claimed_by_a_spare_delivery_is_in_line_no_more(
    engine: Engine, system_engine: Engine, database: Database
) -> None:
    (message,) = record(engine, "a1")
    with tenant_scope("a"):
        assert isinstance(claim(message, "w", 60, 2, on=engine), Claim)
    assert database.rows("select queued_at is not null from messages") == [(True,)]
    assert dispatch(system_engine, free=9) == []
