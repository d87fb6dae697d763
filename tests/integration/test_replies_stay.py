"""A reply never changes: not by a decision about a parked message, nor by a statement of the service role."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

from orchestrator.decisions import Decision
from orchestrator.messages import find_reply
from orchestrator.parked import decide, list_parked, park
from orchestrator.recording import record_message
from shared.db import get_session, make_engine
from shared.models import KonstructMessage
from shared.reply import Reply
from shared.rls import tenant_scope
from shared.tables import messages as table
from tests.support.database import Database
from tests.support.stack_command import Result, konstruct
from tests.support.worker import Cell

OLD_RETRY = (
    "update messages set status = 'received', finished_at = null, reason = null, reply = null, deaths = 0,"
    " errors = 0, seq = default, queued_at = null, due_at = now() where reason = 'parked'"
)
"""What `parked retry` of the version before says."""

OLD_DROP = "update messages set reason = 'dropped', reply = 'This message could not be worked on.'"
"""What its `parked drop` says."""


def parked_message(engine: Engine, **changes: str) -> KonstructMessage:
    values = {"tenant_id": "acme", "agent": "ada", "thread_id": "t", "sender": "sam", "text": "poison"}
    message = KonstructMessage.model_validate({**values, **changes})
    with tenant_scope("acme"):
        with get_session(engine) as session:
            record_message(session, message)
        assert park("acme", message.message_id, on=engine)
    return message


def reply(engine: Engine, message: KonstructMessage) -> Reply:
    found = find_reply("acme", message.message_id, on=engine)
    assert found is not None
    return found


@pytest.mark.parametrize("decision", Decision)
def test_a_decision_leaves_the_reply_as_it_is(engine: Engine, decision: Decision) -> None:
    message = parked_message(engine)
    before = reply(engine, message)
    assert decide("acme", message.message_id, decision, on=engine)
    assert find_reply("acme", message.message_id, on=engine) == before
    assert list_parked("acme", on=engine) == []


def test_a_retry_is_a_new_message_at_the_end_of_its_thread(engine: Engine, database: Database) -> None:
    message = parked_message(engine)
    later = message.model_copy(update={"message_id": "later", "text": "said meanwhile"})
    with tenant_scope("acme"), get_session(engine) as session:
        record_message(session, later)
    decided = decide("acme", message.message_id, Decision.RETRY, on=engine)
    assert decided is not None
    new = decided.retried_as
    content = "thread_id, agent, sender, channel, text, sent_at"
    rows = database.rows(
        f"select {content}, message_id, retry_of, status, queued_at from messages order by seq"
    )
    assert [row[6] for row in rows] == [message.message_id, "later", new]
    assert rows[2][:6] == rows[0][:6]
    assert rows[2][7:] == (message.message_id, "received", None)


def test_of_many_who_retry_at_once_all_are_told_the_same(database: Database) -> None:
    on = make_engine(database.settings(worker_concurrency=8))
    message = parked_message(on)
    together = threading.Barrier(8)

    def retry(_: int) -> str | None:
        together.wait()
        decided = decide("acme", message.message_id, Decision.RETRY, on=on)
        assert decided is not None
        return decided.retried_as

    with ThreadPoolExecutor(8) as pool:
        told = set(pool.map(retry, range(8)))
    on.dispose()
    assert len(told) == 1
    assert database.rows("select count(*) from messages where retry_of is not null") == [(1,)]


def test_what_was_decided_first_stays(engine: Engine) -> None:
    dropped, retried = parked_message(engine), parked_message(engine)
    for message, first, second in (
        (dropped, Decision.DROP, Decision.RETRY),
        (retried, Decision.RETRY, Decision.DROP),
    ):
        decided = decide("acme", message.message_id, first, on=engine)
        assert decided == decide("acme", message.message_id, second, on=engine)
        assert decided is not None
        assert decided.decision is first


def test_the_service_role_cannot_change_what_is_finished(engine: Engine, database: Database) -> None:
    """Whatever column, with plain SQL, and as the version before would decide."""
    parked_message(engine)
    columns = [column.name for column in table.columns if column.name not in ("tenant_id", "seq")]
    before = database.rows("select * from messages")
    statements = [
        OLD_RETRY,
        OLD_DROP,
        "update messages set decision = 'retry', decided_at = now()",
        "update messages set decision = 'perhaps', decided_at = now()",
        "update messages set decision = 'drop'",
        *(f"update messages set {name} = {_other(name)}" for name in columns),
    ]
    for statement in statements:
        with (
            tenant_scope("acme"),
            pytest.raises(IntegrityError, match=r"is finished|not to be decided"),
            get_session(engine) as session,
        ):
            session.execute(text(statement))
    assert database.rows("select * from messages") == before


def _other(name: str) -> str:
    kind = str(table.columns[name].type)
    return {
        "TEXT": "'another'",
        "DATETIME": "now() + interval '1 s'",
        "INTEGER": "7",
        "FLOAT": "7",
        "NUMERIC(14, 8)": "7",
        "BOOLEAN": "true",
        "JSONB": "'[7]'",
    }[kind]


def test_a_decision_is_made_once_and_only_about_what_is_parked(engine: Engine, database: Database) -> None:
    parked_message(engine)
    drop = "update messages set decision = 'drop', decided_at = now()"
    for statement in (drop, "update messages set decision = null, decided_at = null", drop):
        with tenant_scope("acme"):
            if statement is drop and database.rows("select from messages where decision is null"):
                with get_session(engine) as session:
                    session.execute(text(statement))
            else:
                with pytest.raises(IntegrityError), get_session(engine) as session:
                    session.execute(text(statement))
    database.rewrite("update messages set reason = 'agent_unknown', decision = null, decided_at = null")
    with tenant_scope("acme"), pytest.raises(IntegrityError), get_session(engine) as session:
        session.execute(text(drop))


def test_nor_can_the_role_that_owns_the_tables(engine: Engine, database: Database) -> None:
    parked_message(engine)
    with psycopg.connect(database.owner_url) as connection:
        connection.execute("alter table messages no force row level security")
        with pytest.raises(psycopg.errors.RestrictViolation):
            connection.execute("update messages set reply = 'another'")


def command(cell: Cell, *arguments: str) -> Result:
    return konstruct(*arguments, "--tenant", "acme", cwd=cell.folder, env=cell.environment())


def test_the_commands_name_the_one_for_the_other(cell: Cell) -> None:
    message = parked_message(cell.engine)
    decided = json.loads(command(cell, "parked", "retry", message.message_id, "--json").out)
    new = decided["retried_as"]
    again = command(cell, "parked", "retry", message.message_id)
    assert again.code == 0
    assert f"is retried as {new}" in again.err
    dropped = command(cell, "parked", "drop", message.message_id)
    assert dropped.code == 2
    assert f"retried as {new}" in dropped.err
    assert f"retried as {new}" in command(cell, "explain", message.message_id).out
    assert f"retry of    {message.message_id}" in command(cell, "explain", new).out
    evidence = json.loads(command(cell, "explain", new, "--json").out)
    assert evidence["retry_of"] == message.message_id
