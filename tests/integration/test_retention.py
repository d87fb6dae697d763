"""What is deleted when it was kept for long enough, and what never is."""

from __future__ import annotations

import json
from datetime import timedelta

from sqlalchemy import Engine

from konstruct_cli.errors import ExitCode
from konstruct_cli.stack.process import claim_port
from orchestrator.agents.catalog import ServedAgent
from orchestrator.purged import Purged
from orchestrator.retention import BATCH, count_left, purge
from orchestrator.revisions import AGAIN_S, RevisionLog
from shared.models import AgentSpec
from shared.persona import render
from shared.rls import tenant_scope
from tests.support.database import Database
from tests.support.metrics import scrape, total
from tests.support.stack_command import Result, konstruct
from tests.support.waiting import eventually
from tests.support.worker import Cell

DAY = timedelta(days=1)

INSERT = """
    insert into messages (tenant_id, message_id, thread_id, agent, sender, channel, text, sent_at,
                          status, finished_at, revision)
    select '{tenant}', '{prefix}' || n, 't', 'ada', 'sam', 'cli', 'x', now(),
           '{status}', {finished}, '{revision}'
      from generate_series(1, {count}) n
"""

REVISION = """
    insert into agent_revisions (tenant_id, agent, revision, identity_json, persona_json, prompt_sha256,
                                 transparency_clause, last_used_at)
    values ('{tenant}', 'ada', '{revision}', '{{}}', '{{}}', '', '1', now() - interval '{age}')
"""


def put(
    database: Database, tenant: str, prefix: str, age: str, *, count: int = 3, revision: str = "r"
) -> None:
    """Put finished messages of some age into the table."""
    finished = f"now() - interval '{age}'"
    database.execute(
        INSERT.format(
            tenant=tenant, prefix=prefix, count=count, finished=finished, status="answered", revision=revision
        )
    )


def put_unfinished(database: Database, tenant: str) -> None:
    database.execute(
        INSERT.format(tenant=tenant, prefix="open", count=2, finished="null", status="received", revision="r")
    )


def left(database: Database) -> list[tuple[object, ...]]:
    return database.rows(
        "select tenant_id, left(message_id, -1) as kind, count(*) from messages group by 1, 2 order by 1, 2"
    )


def test_only_what_is_finished_and_old_enough_goes(database: Database, system_engine: Engine) -> None:
    put(database, "acme", "old", "31 days")
    put(database, "acme", "new", "29 days")
    put(database, "globex", "old", "31 days")
    put_unfinished(database, "acme")
    database.rewrite("update messages set received_at = now() - interval '90 days'")
    assert purge(system_engine, older_than=30 * DAY) == Purged(messages=6, revisions=0)
    assert left(database) == [("acme", "new", 3), ("acme", "open", 2)]


def test_a_tenant_goes_and_others_stay(database: Database, system_engine: Engine, engine: Engine) -> None:
    for tenant in ("acme", "globex"):
        put(database, tenant, "old", "2 hours")
        put(database, tenant, "new", "59 minutes")
        put_unfinished(database, tenant)
        database.execute(REVISION.format(tenant=tenant, revision="r", age="3 hours"))
        database.execute(
            f"insert into agents (tenant_id, agent, active_revision) values ('{tenant}', 'ada', 'r')"
        )
    # However little is asked for: a copy of a delivery may be on its way for an hour.
    assert purge(system_engine, tenant_id="acme", older_than=timedelta(0)) == Purged(messages=3, revisions=1)
    assert left(database) == [
        ("acme", "new", 3),
        ("acme", "open", 2),
        ("globex", "new", 3),
        ("globex", "old", 3),
        ("globex", "open", 2),
    ]
    assert count_left("acme", on=engine) == (2, 3)
    assert database.rows("select tenant_id from agent_revisions") == [("globex",)]
    assert database.rows("select tenant_id from agents") == [("globex",)]


def test_no_message_outlives_the_documents_that_it_came_from(
    database: Database, system_engine: Engine
) -> None:
    put(database, "acme", "kept", "29 days", revision="used")
    for revision, age in (("used", "29 days"), ("forgotten", "32 days"), ("just", "30 days 30 minutes")):
        database.execute(REVISION.format(tenant="acme", revision=revision, age=age))
    database.execute("insert into agents (tenant_id, agent, active_revision) values ('acme', 'ada', 'used')")
    assert purge(system_engine, older_than=30 * DAY) == Purged(messages=0, revisions=1)
    assert database.rows("select revision from agent_revisions order by 1") == [("just",), ("used",)]
    assert database.rows("select active_revision from agents") == [("used",)]


def test_many_go_batch_by_batch(database: Database, system_engine: Engine) -> None:
    put(database, "acme", "old", "2 days", count=2 * BATCH + 1)
    database.execute(REVISION.format(tenant="acme", revision="r", age="3 days"))
    first = purge(system_engine, older_than=DAY, batches=1)
    assert first == Purged(messages=BATCH, revisions=0)  # documents go after the last message
    assert purge(system_engine, older_than=DAY) == Purged(messages=BATCH + 1, revisions=1)


def test_a_worker_deletes_what_is_older_than_the_setting_says(cell: Cell) -> None:
    put(cell.database, "acme", "old", "2 days")
    put(cell.database, "acme", "new", "1 hour")
    listen = f"127.0.0.1:{claim_port('the metrics', None)}"
    cell.start_worker(KONSTRUCT_KEEP_DAYS="1", KONSTRUCT_WORKER_LISTEN=listen)
    eventually(lambda: left(cell.database) == [("acme", "new", 3)], within_s=60, what="the old ones' end")
    eventually(
        lambda: total(scrape(f"http://{listen}"), "konstruct_messages_purged_total") == 3,
        what="a count of what was deleted",
    )


def test_a_revision_that_speaks_is_noted_again(database: Database, engine: Engine) -> None:
    """Noted once, it would look unused after some weeks, and go."""
    now = [0.0]
    log = RevisionLog(engine, clock=lambda: now[0])
    ada = ServedAgent.of(("acme", "ada"), render(AgentSpec.model_validate({"displayName": "Ada"})))

    def age() -> object:
        with tenant_scope("acme"):
            log.record(ada)
        ((found,),) = database.rows("select now() - last_used_at > interval '1 day' from agent_revisions")
        return found

    assert age() is False
    database.execute("update agent_revisions set last_used_at = now() - interval '2 days'")
    now[0] = AGAIN_S - 1
    assert age() is True
    now[0] = AGAIN_S
    assert age() is False


def test_the_command(cell: Cell) -> None:
    def purged(*arguments: str) -> Result:
        return konstruct("purge", *arguments, cwd=cell.folder, env=cell.environment())

    put(cell.database, "acme", "old", "3 days")
    put(cell.database, "acme", "new", "2 hours")
    put(cell.database, "globex", "old", "3 days")
    put_unfinished(cell.database, "acme")
    asked = purged("--tenant", "acme")
    assert asked.code == ExitCode.USAGE
    assert "say --yes" in asked.err
    done = purged("--older-than", "2d", "--tenant", "acme", "--yes", "--json")
    assert json.loads(done.out) == {"messages": 3, "revisions": 0, "unfinished": 2, "finished": 3}
    told = purged("--tenant", "acme", "-y")
    assert (told.code, told.out) == (ExitCode.OK, "")
    assert "deleted 3 messages" in told.err
    assert "2 messages of tenant acme are unfinished and stay" in told.err
    everybody = purged("--older-than", "1d", "--yes", "--json")
    assert json.loads(everybody.out) == {"messages": 3, "revisions": 0, "unfinished": None, "finished": None}
    assert left(cell.database) == [("acme", "open", 2)]
