"""PostgreSQL or Redis away: nobody is apologised to, nothing is lost, work goes on when they return."""

from __future__ import annotations

import os
import signal
from collections import Counter
from contextlib import ExitStack

import psycopg
import pytest
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from konstruct_cli.stack.postgres import Postgres
from konstruct_cli.stack.process import claim_port
from konstruct_cli.stack.redis import Redis
from orchestrator.errors import StoreUnavailableError
from orchestrator.recording import record_message
from orchestrator.sending import submit
from shared.db import make_engine
from shared.models import KonstructMessage
from shared.reply import MessageStatus
from shared.rls import tenant_scope
from tests.support.database import Database
from tests.support.metrics import scrape
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import eventually
from tests.support.worker import Cell


def restarted(server: Postgres) -> Postgres:
    return Postgres(server.data_dir, server.port, password=server.password, durable=False)


def test_postgresql_away(own_cell: Cell, postgres: Postgres) -> None:
    cell = own_cell
    cell.start_worker()
    first, late = cell.message("before"), cell.message("meanwhile")
    cell.submit(first)
    assert cell.reply(first).status is MessageStatus.ANSWERED
    postgres.stop()
    with pytest.raises(StoreUnavailableError, match="submit it again later"):
        submit(late, on=cell.engine)
    cell.deliver(late.model_dump(mode="json"))
    eventually(lambda: "cannot be claimed" in cell.logs(), what="a claim that failed")
    with restarted(postgres):
        assert cell.reply(late).status is MessageStatus.ANSWERED
        assert cell.pool.seen() == ["before", "meanwhile"]
        assert cell.workers[0].exit_code() is None
        assert eventually(cell.settled)


def test_postgresql_gone_while_a_model_answers(own_cell: Cell, postgres: Postgres) -> None:
    cell = own_cell
    cell.start_worker()
    cell.pool.gate.clear()
    message = cell.message("hello")
    cell.submit(message)
    eventually(lambda: cell.pool.waiting == 1, what="the worker asking the pool")
    postgres.stop()
    cell.pool.gate.set()
    eventually(lambda: "cannot be recorded" in cell.logs(), what="a reply that could not be recorded")
    with restarted(postgres):
        assert cell.reply(message).status is MessageStatus.ANSWERED
        with psycopg.connect(cell.database.superuser_url) as connection:
            assert connection.execute("select count(*) from messages").fetchone() == (1,)


def test_what_a_client_that_is_cut_off_had_locked_is_free_within_seconds(database: Database) -> None:
    """PostgreSQL's own kernel would give the half open connection up after two hours."""
    port = make_url(database.service_url).port
    assert port is not None
    with TcpProxy(port) as proxy, ExitStack() as end:
        url = database.service_url.replace(f":{port}/", f":{proxy.port}/")
        cut_off = make_engine(database.settings(database_url=url))
        end.enter_context(tenant_scope("acme"))
        session = Session(cut_off)
        message = KonstructMessage(tenant_id="acme", thread_id="t", agent="ada", sender="sam", text="hello")
        record_message(session, message)  # holds the thread's lock until the transaction ends
        proxy.freeze()
        locks = "select 1 from pg_locks where locktype = 'advisory'"
        assert database.rows(locks)
        eventually(lambda: not database.rows(locks), within_s=20, what="PostgreSQL letting go")
        session.invalidate()  # closes the connection, and says nothing over it
        cut_off.dispose()


def test_redis_away(own_cell: Cell, redis: Redis) -> None:
    cell = own_cell
    listen = f"127.0.0.1:{claim_port('metrics', None)}"
    cell.start_worker(KONSTRUCT_WORKER_LISTEN=listen)

    def consuming() -> float:
        return scrape(f"http://{listen}")["konstruct_worker_consuming"]

    first, late = cell.message("before"), cell.message("meanwhile")
    cell.submit(first)
    assert cell.reply(first).status is MessageStatus.ANSWERED
    assert consuming() == 1
    redis.stop()
    assert not submit(late, on=cell.engine).queued
    assert cell.database.rows("select status from messages where text = 'meanwhile'") == [("received",)]
    eventually(lambda: consuming() == 0, what="a look at Redis in vain")
    with Redis(redis.data_dir, redis.port, password=redis.password, appendonly=True):
        assert cell.reply(late).status is MessageStatus.ANSWERED
        eventually(lambda: consuming() == 1, what="a look at Redis")
        assert cell.workers[0].exit_code() is None


def test_redis_gone_while_a_model_answers(own_cell: Cell, redis: Redis) -> None:
    """What is under way goes on, in the same process, and nothing is asked of a model twice."""
    cell = own_cell
    worker = cell.start_worker()
    cell.pool.gate.clear()
    sent = [cell.message(f"number {number}") for number in range(3)]
    cell.submit(*sent)
    eventually(lambda: cell.pool.waiting == 3, what="the worker asking the pool")
    os.kill(redis.process.pid, signal.SIGKILL)
    eventually(lambda: "Connection to broker lost" in cell.logs(), what="a lost connection")
    redis.stop()
    with Redis(redis.data_dir, redis.port, password=redis.password, appendonly=True):
        cell.pool.gate.set()
        assert {cell.reply(message).status for message in sent} == {MessageStatus.ANSWERED}
        later = cell.message("afterwards")
        cell.submit(later)
        assert cell.reply(later).status is MessageStatus.ANSWERED
        assert worker.exit_code() is None
        assert sorted(cell.pool.seen()) == sorted(message.text for message in [*sent, later])


def test_redis_away_while_more_wait_than_it_is_given_at_once(own_cell: Cell, redis: Redis) -> None:
    cell = own_cell
    cell.pool.gate.clear()
    cell.start_worker(KONSTRUCT_WORKER_CONCURRENCY="2", KONSTRUCT_TENANT_QUEUED="2")
    sent = [cell.message(f"number {number}") for number in range(20)]
    cell.submit(*sent[:10])
    eventually(lambda: cell.pool.waiting == 2, what="the worker asking the pool")
    redis.stop()
    cell.submit(*sent[10:12])
    cell.pool.gate.set()
    with Redis(redis.data_dir, redis.port, password=redis.password, appendonly=True):
        cell.submit(*sent[12:])
        assert {cell.reply(message, within_s=60).status for message in sent} == {MessageStatus.ANSWERED}
    assert Counter(cell.pool.seen()) == Counter(message.text for message in sent)


def test_redis_loses_what_it_held(own_cell: Cell, redis: Redis) -> None:
    """Nothing is in the queue any more, and every message is in PostgreSQL."""
    cell = own_cell
    cell.pool.gate.clear()
    cell.start_worker(KONSTRUCT_WORKER_CONCURRENCY="1")
    sent = [cell.message(f"number {number}") for number in range(12)]
    cell.submit(*sent)
    eventually(lambda: cell.pool.waiting == 1, what="the worker asking the pool")
    cell.broker.flushdb()
    cell.pool.gate.set()
    assert {cell.reply(message).status for message in sent} == {MessageStatus.ANSWERED}
    assert sorted(cell.pool.seen()) == sorted(message.text for message in sent)
    assert eventually(cell.settled)
