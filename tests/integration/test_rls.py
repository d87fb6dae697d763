"""Row level security for real: what the service role can and cannot do."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError, ProgrammingError

from orchestrator import messages, recording
from orchestrator.messages import Busy, Claim
from shared.config import ConfigurationError
from shared.db import get_session, make_engine, refuse_unsafe_role
from shared.models import KonstructMessage
from shared.reply import MessageStatus, Reply
from shared.rls import TenantNotSetError, current_tenant_id, tenant_scope
from tests.support.database import Database

TABLES = ("messages", "agent_revisions", "agents")
SUSPECT_FROM = 2


def message(tenant: str, text: str = "hello", **more: str) -> KonstructMessage:
    values = {"tenant_id": tenant, "agent": "ada", "thread_id": "t", "sender": "sam", "text": text}
    return KonstructMessage.model_validate({**values, **more})


def record(engine: Engine, *of: KonstructMessage) -> None:
    for one in of:
        with tenant_scope(one.tenant_id), get_session(engine) as session:
            recording.record_message(session, one)


def backend(engine: Engine) -> int:
    with get_session(engine) as session:
        return int(session.execute(text("select pg_backend_pid()")).scalar_one())


def seen(engine: Engine) -> list[str]:
    with get_session(engine) as session:
        return list(session.execute(text("select tenant_id from messages order by 1")).scalars())


def test_a_pooled_connection_carries_no_tenant_to_its_next_user(engine: Engine) -> None:
    record(engine, message("acme"), message("globex"))
    with tenant_scope("acme"):
        first = backend(engine)
        assert seen(engine) == ["acme"]
    with tenant_scope("globex"):
        assert backend(engine) == first  # one and the same connection
        assert seen(engine) == ["globex"]


def test_no_tenant_no_transaction(engine: Engine) -> None:
    with pytest.raises(TenantNotSetError, match="tenant_scope"):
        seen(engine)
    with tenant_scope("acme"):
        assert seen(engine) == []


def test_no_tenant_no_rows_even_below_the_hook(engine: Engine, database: Database) -> None:
    record(engine, message("acme"))
    with psycopg.connect(database.service_url) as connection:
        assert connection.execute("select count(*) from messages").fetchone() == (0,)
        connection.execute("select set_config('app.tenant_id', 'acme', true)")
        assert connection.execute("select count(*) from messages").fetchone() == (1,)
        connection.rollback()
        # After the transaction the setting reads '', which is no tenant.
        assert connection.execute("select current_setting('app.tenant_id')").fetchone() == ("",)
        assert connection.execute("select count(*) from messages").fetchone() == (0,)


def test_autocommit_fails_closed(engine: Engine) -> None:
    record(engine, message("acme"))
    with tenant_scope("acme"), engine.connect() as connection:
        automatic = connection.execution_options(isolation_level="AUTOCOMMIT")
        assert automatic.execute(text("select count(*) from messages")).scalar_one() == 0


def test_writing_for_another_tenant_is_refused(engine: Engine) -> None:
    record(engine, message("globex"))
    insert = text("insert into agents (tenant_id, agent, active_revision) values ('globex', 'ada', 'x')")
    for statement in (insert, text("update messages set tenant_id = 'globex'")):
        record(engine, message("acme", message_id="m"))
        refused = pytest.raises(ProgrammingError, match="row-level security")
        with refused, tenant_scope("acme"), get_session(engine) as session:
            session.execute(statement)
    with tenant_scope("acme"), get_session(engine) as session:
        changed = session.execute(
            text("update messages set reply = 'x' where tenant_id = 'globex' returning 1")
        )
        assert changed.all() == []


def test_the_tenant_is_reset_after_an_error(engine: Engine) -> None:
    record(engine, message("acme"), message("globex"))
    with pytest.raises(ZeroDivisionError), tenant_scope("acme"), get_session(engine) as session:  # noqa: PT012
        session.execute(text("select 1"))
        raise ZeroDivisionError
    assert current_tenant_id.get() is None
    with pytest.raises(DBAPIError), tenant_scope("acme"), get_session(engine) as session:
        session.execute(text("select 1/0"))
    with tenant_scope("globex"):
        assert seen(engine) == ["globex"]


def test_scopes_nest() -> None:
    with tenant_scope("acme"):
        with tenant_scope("globex"):
            assert current_tenant_id.get() == "globex"
        assert current_tenant_id.get() == "acme"


async def test_a_thread_of_the_loop_keeps_the_tenant(engine: Engine) -> None:
    record(engine, message("acme"), message("globex"))

    async def look(tenant: str) -> list[str]:
        with tenant_scope(tenant):
            return await asyncio.to_thread(seen, engine)

    tenants = ["acme", "globex"] * 20
    assert await asyncio.gather(*map(look, tenants)) == [[tenant] for tenant in tenants]


def test_a_hundred_concurrent_transactions_of_two_tenants_leak_nothing(database: Database) -> None:
    engine = make_engine(database.settings(worker_concurrency=4))
    record(engine, message("acme"), message("globex"))

    def look(number: int) -> bool:
        tenant = ("acme", "globex")[number % 2]

        async def inside() -> list[str]:
            return seen(engine)

        with tenant_scope(tenant):
            return asyncio.run(inside()) == [tenant]

    with ThreadPoolExecutor(16) as threads:
        assert all(threads.map(look, range(100)))
    engine.dispose()


@pytest.mark.parametrize("table", TABLES)
def test_every_table_is_forced(table: str, database: Database) -> None:
    row = database.rows("select relrowsecurity, relforcerowsecurity from pg_class where relname = %s", table)
    assert row == [(True, True)]


def test_there_is_no_table_without_policies(database: Database) -> None:
    unprotected = database.rows(
        "select relname from pg_class c join pg_namespace n on n.oid = c.relnamespace"
        " where nspname = 'public' and relkind in ('r', 'p') and not relrowsecurity"
        " and relname <> 'alembic_version'"
    )
    assert unprotected == []


def test_the_owner_sees_nothing_either(engine: Engine, database: Database) -> None:
    record(engine, message("acme"))
    with psycopg.connect(database.owner_url) as connection:
        assert connection.execute("select count(*) from messages").fetchone() == (0,)


@pytest.mark.parametrize(
    "statement",
    [
        "delete from messages",
        "truncate messages",
        "drop table messages",
        "alter table messages disable row level security",
        "set role konstruct_definer",
        "set role konstruct_system",
        "select konstruct_extend_leases('x', '{1}', 60)",
        "create table loot (x text)",
        "update agent_revisions set persona_json = 'x'",
    ],
)
def test_the_service_role_may_not(statement: str, database: Database) -> None:
    refused = pytest.raises(psycopg.errors.InsufficientPrivilege)
    with psycopg.connect(database.service_url) as connection, refused:
        connection.execute(statement)


@pytest.mark.parametrize("table", TABLES)
def test_the_system_role_reads_and_writes_no_table(table: str, database: Database) -> None:
    refused = pytest.raises(psycopg.errors.InsufficientPrivilege)
    with psycopg.connect(database.system_url) as connection, refused:
        connection.execute(f"select * from {table}")


def test_functions_that_see_across_tenants_are_fenced_in(database: Database) -> None:
    rows = database.rows(
        "select proname, prosecdef, proconfig, rolname, rolcanlogin, rolsuper or rolbypassrls"
        " from pg_proc p join pg_roles r on r.oid = proowner"
        " join pg_namespace n on n.oid = pronamespace where nspname = 'public' and prosecdef"
    )
    assert rows
    for name, definer, config, owner, login, bypasses in rows:
        assert isinstance(config, list)
        assert (definer, owner, login, bypasses) == (True, "konstruct_definer", False, False), name
        # What else is set says how to plan, and nothing of rights.
        planning = ("enable_", "jit=", "plan_cache_mode=")
        others = [setting for setting in config if not setting.startswith(planning)]
        assert others == ["search_path=pg_catalog, pg_temp"], name


@pytest.mark.parametrize("role", ["superuser_url", "owner_url"])
def test_a_role_that_is_not_held_back_is_refused(role: str, database: Database) -> None:
    engine = make_engine(database.settings(database_url=getattr(database, role)))
    with pytest.raises(ConfigurationError, match="not a superuser, not the owner"):
        refuse_unsafe_role(engine)
    engine.dispose()


def test_leases_are_extended_across_tenants_for_their_owner_only(
    engine: Engine, system_engine: Engine
) -> None:
    claims: list[object] = []
    for tenant, owner in (("acme", "w1"), ("globex", "w1"), ("acme", "w2"), ("acme", "w1")):
        with tenant_scope(tenant):
            one = message(tenant, thread_id=f"t{len(claims)}")
            claims.append(messages.claim(one, owner, 5, SUSPECT_FROM, on=engine))
    seqs = [claim.seq for claim in claims if isinstance(claim, Claim)]
    extend = text("select konstruct_extend_leases('w1', :held, 60)")
    with system_engine.begin() as connection:
        # Two are its own and held; one is another's; one is its own, but it lost hold of it.
        assert connection.execute(extend, {"held": seqs[:3]}).scalar_one() == 2


def test_a_late_copy_cannot_commit(engine: Engine) -> None:
    one = message("acme")
    with tenant_scope("acme"):
        first = messages.claim(one, "w1", 0.0, SUSPECT_FROM, on=engine)  # a lease that is void at once
        second = messages.claim(one, "w2", 30.0, SUSPECT_FROM, on=engine)
        assert isinstance(first, Claim)
        assert isinstance(second, Claim)
        assert (first.attempt, second.attempt, second.deaths) == (1, 2, 1)
        late, right = (answer(one, words) for words in ("late", "right"))
        assert not messages.record_reply(late, first, None, on=engine)
        messages.release("acme", first, on=engine)  # nor give up what is no longer its own
        assert isinstance(messages.claim(one, "w3", 30.0, SUSPECT_FROM, on=engine), Busy)
        assert messages.record_reply(right, second, None, on=engine)
        assert not messages.record_reply(late, second, None, on=engine)
    found = messages.find_reply("acme", one.message_id, on=engine)
    assert found is not None
    assert found.text == "right"
    assert messages.find_reply("globex", one.message_id, on=engine) is None


def answer(one: KonstructMessage, text: str) -> Reply:
    return Reply.model_validate(
        {
            **one.model_dump(include={"message_id", "thread_id", "tenant_id", "agent"}),
            "text": text,
            "status": MessageStatus.ANSWERED,
        }
    )


def test_one_message_has_one_claim_however_many_try(database: Database) -> None:
    engine = make_engine(database.settings(worker_concurrency=16))
    one = message("acme")

    def attempt(number: int) -> object:
        with tenant_scope("acme"):
            return messages.claim(one, f"w{number}", 30.0, SUSPECT_FROM, on=engine)

    with ThreadPoolExecutor(16) as threads:
        results = list(threads.map(attempt, range(32)))
    assert [type(result) for result in results].count(Claim) == 1
    engine.dispose()


def test_a_later_message_waits_for_the_earlier(engine: Engine) -> None:
    first, second = message("acme", "1"), message("acme", "2")
    record(engine, first, second)
    with tenant_scope("acme"):
        held = messages.claim(second, "w", 30.0, SUSPECT_FROM, on=engine)
        assert held == Busy("earlier messages of the thread come first", 1)
        claimed = messages.claim(first, "w", 30.0, SUSPECT_FROM, on=engine)
        assert isinstance(claimed, Claim)
        assert messages.record_reply(answer(first, "one"), claimed, None, on=engine)
        claimed = messages.claim(second, "w", 30.0, SUSPECT_FROM, on=engine)
        assert isinstance(claimed, Claim)
        assert [turn.content for turn in claimed.history] == ["1", "one"]
