"""The cross-tenant matrix in SQL: what a statement of one tenant's transaction can do to another's rows.

Whoever could run any statement as the service role could name another tenant too; that is the password's
to prevent. Here is what holds within a transaction that acts for one tenant, whatever it runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Table, insert, text

from konstruct_cli.stack.postgres import Postgres
from shared.db import get_session, make_engine
from shared.rls import tenant_scope
from shared.tables import metadata
from tests.support.crossing import INTRUDER, PAGE, TEXTS, VICTIM, rows_of
from tests.support.database import Database, fresh_database

TABLES = [table for table in metadata.sorted_tables if "tenant_id" in table.c]

OWN = "its own rows at most"
NO_ROW = "no row, or refused"
DENIED = "permission denied|must be owner|only the role|not allowed|insufficient privilege|Only roles with"
POLICY = "row-level security|permission denied"


@dataclass(frozen=True)
class Statement:
    """One row of the matrix; ``{t}`` stands for a table."""

    tried: str
    """In words."""

    run: tuple[str, ...]
    """The statements, in one transaction."""

    refused: str | None = None
    """What the error must match; none: it runs, and has its own rows at most."""

    outcome: str = OWN
    """In words."""

    def __str__(self) -> str:
        return self.tried


def reads(tried: str, *run: str) -> Statement:
    return Statement(tried, run)


def refused(tried: str, *run: str, because: str = DENIED) -> Statement:
    return Statement(tried, run, because, "refused")


ON_TABLES = (
    reads("`select`", "select t::text from {t} t"),
    reads("`select` with the other's name", "select t::text from {t} t where tenant_id = 'globex' or true"),
    reads("`copy … to`", "copy {t} to stdout"),
    reads("a prepared statement", "prepare p as select t::text from {t} t", "execute p", "deallocate p"),
    reads("a cursor", "declare c cursor for select t::text from {t} t", "fetch all from c"),
    reads("a view of its own", "create temp view v as select t::text from {t} t", "select * from v"),
    reads(
        "a function that is asked before the policy",
        "create function pg_temp.tell(x text) returns boolean language plpgsql cost 0.0000001"
        " as $$ begin raise notice '%', x; return true; end $$",
        "select t::text from {t} t where pg_temp.tell(t::text)",
    ),
    reads("statistics", "select s::text from pg_stats s where tablename = '{t}'"),
    refused("the planner's samples", "select * from pg_statistic"),
    refused("`insert` for the other", "INSERT", because=POLICY),
    refused("giving a row away", "update {t} set tenant_id = 'globex'", because=POLICY),
    Statement(
        "`update` of the other's",
        ("update {t} set tenant_id = tenant_id where tenant_id = 'globex' returning {t}::text",),
        POLICY,
        NO_ROW,
    ),
    Statement(
        "`delete` of the other's",
        ("delete from {t} where tenant_id = 'globex' returning {t}::text",),
        POLICY,
        NO_ROW,
    ),
    refused("`copy … from`", "copy {t} from stdin", because=f"not supported with|{POLICY}"),
    refused("`truncate`", "truncate {t}"),
    refused(
        "without row level security", "set local row_security = off", "select * from {t}", because=POLICY
    ),
    refused("`disable row level security`", "alter table {t} disable row level security"),
    refused("`no force row level security`", "alter table {t} no force row level security"),
    refused("a policy of its own", "create policy mine on {t} using (true)"),
    refused(
        "a trigger",
        "create trigger mine before insert on {t} execute function suppress_redundant_updates_trigger()",
    ),
    refused("`drop`", "drop table {t}"),
)  # fmt: skip
"""Tried on every table."""

ANYWHERE = (
    refused("`set role`", "set role konstruct_definer"),
    refused("`set role` of the system", "set role konstruct_system"),
    refused("`set role` of the owner", "set role konstruct_owner"),
    refused("`set session authorization`", "set session authorization postgres"),
    refused("granting itself a role", "grant konstruct_definer to current_user"),
    refused("`bypassrls`", "alter role current_user bypassrls"),
    refused("a function of the system", "select konstruct_sweep(0, 0, 1, 1000)"),
    refused(
        "a function of its own for all",
        "create function public.mine() returns int language sql security definer as 'select 1'",
    ),
    refused("a table of its own", "create table public.loot (x text)"),
    refused("an extension", "create extension dblink", because=f"{DENIED}|not available"),
    refused("a file of the server", "select pg_read_file('postgresql.conf')"),
    refused("a folder of the server", "select pg_ls_dir('.')"),
    refused("a program on the server", "copy (select 1) to program 'id'"),
    refused("a large object from a file", "select lo_import('/etc/passwd')"),
    refused("passwords", "select * from pg_authid"),
    reads("what other sessions run", "select query from pg_stat_activity"),
    reads("what other sessions prepared", "select statement from pg_prepared_statements"),
)  # fmt: skip
"""Tried once."""

LINES = [("every table", one) for one in ON_TABLES] + [("the server", one) for one in ANYWHERE]
"""The matrix, a line for each."""

CELLS = [(one, table) for table in TABLES for one in ON_TABLES] + [(one, None) for one in ANYWHERE]


@pytest.fixture(scope="module")
def shared_database(postgres_server: Postgres, template_database: str) -> Iterator[Database]:
    """Make a database with a row of each tenant in every table."""
    with fresh_database(postgres_server, template_database) as made:
        engine = make_engine(made.settings(worker_concurrency=1))
        for tenant, texts in ((VICTIM, TEXTS), (INTRUDER, ("mine",))):
            with tenant_scope(tenant), get_session(engine) as session:
                for table in TABLES:
                    session.execute(insert(table).values(row_for(tenant, table, texts[0])))
        yield made  # with a session of the service role that has just worked for both
        engine.dispose()


def row_for(tenant: str, table: Table, words: str) -> dict[str, Any]:
    """Make a row: every column without a default, and every text that may be null."""
    row: dict[str, Any] = {}
    for column in table.c:
        if column.name == "tenant_id":
            row[column.name] = tenant
        elif column.name in ("status", "owner", "reason") or column.identity is not None:
            continue
        elif column.server_default is None and (not column.nullable or column.name == "reply"):
            row[column.name] = words if column.type.python_type is str else datetime.now(UTC)
    return row


def run(database: Database, statements: tuple[str, ...], table: Table | None) -> str:
    """Run statements in one transaction of the intruder's; return every row and every notice."""
    seen: list[str] = []
    with psycopg.connect(database.service_url) as connection:
        connection.add_notice_handler(lambda notice: seen.append(str(notice.message_primary)))
        connection.execute("select set_config('app.tenant_id', %s, true)", (INTRUDER,))
        with connection.cursor() as cursor:
            for statement in statements:
                if statement == "INSERT":
                    assert table is not None
                    insert_as_the_other(cursor, table)
                    continue
                words = statement.replace("{t}", table.name if table is not None else "")
                if words.startswith("copy ") and " stdout" in words:
                    with cursor.copy(words.encode()) as copy:
                        seen += [bytes(part).decode() for part in copy]
                    continue
                cursor.execute(words.encode())
                if cursor.description:
                    seen += [str(row) for row in cursor.fetchall()]
        connection.commit()
    return "\n".join(seen)


def run_or_error(database: Database, statements: tuple[str, ...], table: Table | None) -> tuple[str, bool]:
    """Run statements; return what they gave or the error's words, and whether it was an error."""
    try:
        return run(database, statements, table), False
    except psycopg.errors.Error as error:
        return str(error), True


def insert_as_the_other(cursor: psycopg.Cursor[Any], table: Table) -> None:
    row = row_for(VICTIM, table, "forged")
    names = sql.SQL(", ").join(map(sql.Identifier, row))
    values = sql.SQL(", ").join(map(sql.Placeholder, row))
    into = sql.Identifier(table.name)
    cursor.execute(sql.SQL("insert into {} ({}) values ({})").format(into, names, values), row)


@pytest.mark.parametrize(
    ("statement", "table"),
    CELLS,
    ids=[f"{one} {table.name if table is not None else ''}" for one, table in CELLS],
)
def test_a_transaction_of_one_tenant_reaches_no_other(
    shared_database: Database, statement: Statement, table: Table | None
) -> None:
    before = rows_of(VICTIM, shared_database)
    seen, refused = run_or_error(shared_database, statement.run, table)
    if statement.outcome == NO_ROW and not refused:
        assert seen == ""
    elif statement.refused is None:
        assert not refused, seen
    else:
        assert refused, seen
        assert re.search(statement.refused, seen)
    for words in TEXTS:
        assert words not in seen
    assert rows_of(VICTIM, shared_database) == before


def test_a_setting_that_outlives_its_transaction_names_nobody_to_the_next(shared_database: Database) -> None:
    engine = make_engine(shared_database.settings(worker_concurrency=1))
    with tenant_scope(INTRUDER):
        with get_session(engine) as session:
            session.execute(text("select set_config('app.tenant_id', 'globex', false)"))
        for table in TABLES:
            with get_session(engine) as session:
                found = session.execute(text(f"select tenant_id from {table.name}")).scalars()
                assert set(found) == {INTRUDER}, table.name
    engine.dispose()


def test_the_functions_of_the_system_role_return_no_text(database: Database) -> None:
    """What may be called across tenants gives back ids, times and numbers."""
    rows = database.rows(
        "select proname, array_remove(array_agg(name), null), format_type(prorettype, null)"
        " from pg_proc p left join lateral unnest(proargnames, proargmodes) as a(name, mode)"
        " on a.mode in ('t', 'o')"
        " where prosecdef and pronamespace = 'public'::regnamespace group by p.oid"
    )
    assert {name for name, *_ in rows} >= {"konstruct_sweep", "konstruct_suspects", "konstruct_extend_leases"}
    told = {"text", "reply", "sender", "thread_id", "identity_json", "persona_json", "pool_attempts"}
    for name, columns, type_ in rows:
        assert isinstance(columns, list)
        assert told.isdisjoint(columns), name
        assert columns or type_ in ("bigint", "integer", "double precision", "boolean", "void"), (name, type_)


def test_the_system_role_calls_nothing_else(database: Database) -> None:
    """What the system role may execute and the service role may not: the functions that are fenced in."""
    rows = database.rows(
        "select proname, has_function_privilege('konstruct_app', oid, 'execute'), prosecdef from pg_proc"
        " where pronamespace = 'public'::regnamespace"
        " and has_function_privilege('konstruct_sys', oid, 'execute')"
    )
    assert rows
    assert {(service, definer) for _, service, definer in rows} == {(False, True)}


def test_the_documentation_shows_the_matrix() -> None:
    rows = "".join(f"| {where} | {one.tried} | {one.outcome} |\n" for where, one in LINES)
    assert rows in PAGE.read_text(), rows
