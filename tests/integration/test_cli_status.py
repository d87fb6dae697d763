"""``konstruct status`` tells what waits in PostgreSQL, at default settings and while a part is silent."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from orchestrator.recording import record_message
from shared.db import driver_url, get_session, make_system_engine
from shared.rls import tenant_scope
from tests.support.stack_command import konstruct
from tests.support.worker import Cell

QUICK_S = 20.0
"""Longest that a look may take while a part is silent: one timeout, with what a busy machine adds."""


def look(cell: Cell, *options: str, **more: str) -> tuple[int, dict[str, Any], str]:
    environment = cell.environment(**more)
    # A sender that knows nothing but the default limits.
    for name in ("KONSTRUCT_WORKER_CONCURRENCY", "KONSTRUCT_LEASE_S", "KONSTRUCT_DRAIN_S"):
        del environment[name]
    done = konstruct("status", "--json", *options, cwd=cell.folder, env=environment)
    assert done.out, done.err
    people = konstruct("status", *options, cwd=cell.folder, env=environment)
    return done.code, json.loads(done.out), people.out


def wait_in_line(cell: Cell, count: int) -> None:
    """Record messages that nobody has queued."""
    for tenant, share in (("acme", count - 200), ("globex", 200)):
        with tenant_scope(tenant), get_session(cell.engine) as session:
            for _ in range(share):
                record_message(session, cell.message("hi", tenant_id=tenant), queued=False)


def test_what_waits_in_postgresql_is_told_and_that_nobody_takes_it(cell: Cell) -> None:
    wait_in_line(cell, 1200)
    code, found, people = look(cell)
    backlog = found["backlog"]
    assert (backlog["messages"], backlog["longest_line"], backlog["line_limit"]) == (1200, 1000, 20_000)
    assert 0 < backlog["longest_wait_s"] < 120
    assert (code, found["in_flight"]) == (1, 0)
    assert "backlog 1200, longest line 1000 of 20000, longest wait" in people
    assert "no worker takes messages, and some wait" in people
    assert "deliveries waiting" not in people


AGED = text(
    "update messages set received_at = now() - interval '500 s', due_at = now() + interval '30 s',"
    " owner = 'w', lease_expires_at = now() + make_interval(secs => :lease) where message_id = :id"
)
"""Makes a message old, put back for later, and held by a worker."""


def test_the_longest_wait_is_of_what_nobody_is_at(cell: Cell) -> None:
    first, second = cell.message("first"), cell.message("second")
    for message in (first, second):
        with tenant_scope("acme"), get_session(cell.engine) as session:
            record_message(session, message, queued=False)
    owner = create_engine(driver_url(cell.database.superuser_url))
    try:
        with owner.begin() as connection:
            connection.execute(AGED, {"id": first.message_id, "lease": 60})
        assert look(cell)[1]["backlog"]["longest_wait_s"] < 120, "a worker is at it"
        with owner.begin() as connection:
            connection.execute(AGED, {"id": first.message_id, "lease": -1})
        _, found, people = look(cell)
        assert found["backlog"]["longest_wait_s"] >= 500
        assert "stuck: a message has waited for 8 min" in people
    finally:
        owner.dispose()


def test_a_long_line_costs_no_look_at_all_of_it(cell: Cell) -> None:
    owner = create_engine(driver_url(cell.database.superuser_url))
    system = make_system_engine(cell.database.settings())
    try:
        with owner.begin() as connection:
            connection.execute(
                text(
                    "insert into messages (tenant_id, message_id, thread_id, agent, sender, channel, text,"
                    " sent_at, queued_at, received_at)"
                    " select 'acme', 'm' || n, 't' || n, 'ada', 'sam', 'cli', 'hi',"
                    " now(), null, now() - make_interval(secs => n) from generate_series(1, 20000) n"
                )
            )
            connection.execute(text("analyze messages"))
            plan = "\n".join(connection.execute(text(f"explain {OLDEST}")).scalars())
            assert "Index Scan using messages_oldest" in plan, plan
            for other in COUNTS:
                assert "messages_oldest" not in "\n".join(
                    connection.execute(text(f"explain {other}")).scalars()
                ), other
        with system.connect() as connection:
            wait = connection.execute(text("select konstruct_oldest_wait()")).scalar_one()
        assert wait >= 20_000
    finally:
        owner.dispose()
        system.dispose()


OLDEST = """select received_at from messages m where m.status = 'received' and m.seq > 0
  and (m.owner is null or m.lease_expires_at < now()) order by m.received_at limit 1"""
"""What the function asks."""

COUNTS = (
    "select count(*) from messages where status = 'received' and queued_at is null",
    "select count(*) from messages where status = 'received' and queued_at is not null",
    "select count(*) from messages where tenant_id = 'acme' and status = 'received' and queued_at is null",
    "select 1 from messages where tenant_id = 'acme' and status = 'received' and queued_at is not null",
)
"""What other queries ask: they would read every unfinished message by that index."""


def test_without_the_system_role_it_is_said_what_to_set(cell: Cell) -> None:
    environment = cell.environment()
    del environment["KONSTRUCT_SYSTEM_DATABASE_URL"]
    done = konstruct("status", cwd=cell.folder, env=environment)
    assert "what waits cannot be counted: KONSTRUCT_SYSTEM_DATABASE_URL is not set" in done.out


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("part", ["PostgreSQL", "Redis", "llm-pool", "worker"])
def test_a_silent_part_is_named_and_the_others_are_told_of(own_cell: Cell, part: str, tmp_path: Path) -> None:
    worker = own_cell.start_worker()
    pids = {
        "PostgreSQL": int((tmp_path / "postgres" / "postmaster.pid").read_text().split("\n")[0]),
        "Redis": int(own_cell.broker.info("server")["process_id"]),
        "worker": worker.pid,
    }
    more = {"KONSTRUCT_LLM_POOL_URL": "http://192.0.2.1:9"} if part == "llm-pool" else {}
    began = time.monotonic()
    if part in pids:
        with frozen(pids[part]):
            code, found, people = look(own_cell, **more)
    else:
        code, found, people = look(own_cell, **more)
    assert time.monotonic() - began < 2 * QUICK_S
    assert (code, found["ok"]) == (1, False)
    up = {"PostgreSQL": found["postgres"]["ok"], "Redis": found["redis"]["ok"]}
    assert up == {name: name != part for name in up}
    assert (found["backlog"] is None) == (part == "PostgreSQL")
    assert len(found["workers"]) == (part in ("PostgreSQL", "llm-pool"))
    if part == "worker":
        assert "none answers" in people
    else:
        assert "does not answer" in people
