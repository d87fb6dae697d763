"""The migrations make what the code believes in, run twice, at once, and as no superuser."""

from __future__ import annotations

import subprocess
import sys
from urllib.parse import quote

import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg import sql
from sqlalchemy import create_engine

from konstruct_cli.stack.postgres import Postgres
from shared.config import Settings
from shared.db import driver_url, make_engine, make_system_engine
from shared.migrate import Login, alembic_config, ensure_logins, migrate, migrations_dir
from shared.tables import metadata
from tests.support.database import OWNER, SERVICE, SYSTEM, Database

HEAD = ScriptDirectory(str(migrations_dir())).get_current_head()


def test_the_tables_are_those_of_the_code(database: Database) -> None:
    engine = create_engine(driver_url(database.owner_url))
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_check_constraints_are_those_of_the_code(database: Database) -> None:
    named = {
        constraint.name
        for table in metadata.tables.values()
        for constraint in table.constraints
        if type(constraint).__name__ == "CheckConstraint"
    }
    found = {row[0] for row in database.rows("select conname from pg_constraint where contype = 'c'")}
    assert named <= found


def test_a_second_run_changes_nothing_also_at_once(postgres_server: Postgres, template_database: str) -> None:
    with psycopg.connect(postgres_server.superuser_url(), autocommit=True) as connection:
        connection.execute(f"create database twice owner {OWNER.user}")
    url = postgres_server.url("twice", *OWNER)
    code = "import sys; from shared.migrate import migrate; migrate(sys.argv[1])"
    runs = [subprocess.Popen([sys.executable, "-c", code, url]) for _ in range(3)]
    assert [run.wait(timeout=60) for run in runs] == [0, 0, 0]
    with psycopg.connect(url) as connection:
        assert connection.execute("select version_num from alembic_version").fetchall() == [(HEAD,)]


def test_down_and_up_again(database: Database) -> None:
    command.downgrade(alembic_config(database.owner_url), "base")
    assert database.rows("select relname from pg_class where relname = 'messages'") == []
    migrate(database.owner_url)
    assert database.rows("select count(*) from messages") == [(0,)]


def test_logins_get_their_password_renewed(database: Database) -> None:
    renewed = Login(SERVICE.user, "another-password")
    ensure_logins(database.owner_url, service=renewed, system=SYSTEM)
    try:
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(database.service_url)
        psycopg.connect(database.service_url.replace(SERVICE.password, renewed.password)).close()
    finally:
        ensure_logins(database.owner_url, service=SERVICE, system=SYSTEM)


@pytest.mark.parametrize(("service", "system"), [(OWNER, SYSTEM), (SERVICE, SERVICE), (SERVICE, OWNER)])
def test_one_user_for_all_is_refused(database: Database, service: Login, system: Login) -> None:
    with pytest.raises(ValueError, match="three different users"):
        ensure_logins(database.owner_url, service=service, system=system)


MIGRATE = [sys.executable, "-c", "from shared.migrate import run; run()"]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*MIGRATE, *arguments],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_the_command_says_what_is_missing() -> None:
    done = run(KONSTRUCT_DATABASE_URL="postgresql://a:b@127.0.0.1/x")
    assert done.returncode == 2
    assert "not set: KONSTRUCT_MIGRATION_DATABASE_URL, KONSTRUCT_SYSTEM_DATABASE_URL" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_command_needs_no_superuser(database: Database) -> None:
    done = run(
        KONSTRUCT_MIGRATION_DATABASE_URL=database.owner_url,
        KONSTRUCT_DATABASE_URL=database.service_url,
        KONSTRUCT_SYSTEM_DATABASE_URL=database.system_url,
    )
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        0,
        "konstruct-migrate: the database is up to date",
    )


def test_a_database_that_is_away_is_one_clear_line() -> None:
    urls = {
        name: f"postgresql://{name}:canary-secret@127.0.0.1:1/x" for name in ("owner", "service", "system")
    }
    done = run(
        KONSTRUCT_MIGRATION_DATABASE_URL=urls["owner"],
        KONSTRUCT_DATABASE_URL=urls["service"],
        KONSTRUCT_SYSTEM_DATABASE_URL=urls["system"],
    )
    assert done.returncode == 1
    assert "connection" in done.stderr
    assert "Traceback" not in done.stderr
    assert "canary-secret" not in done.stderr


HOSTILE = [
    "two words ",
    "100% %41 %zz",
    "p@ss:w/rd?#[x]&=+",
    """quo'te" \\ back ` $tag$ {0} ; --""",
    "пароль ñ €",
]
"""Passwords that some part on the way could take for more than a password."""


@pytest.mark.parametrize("password", HOSTILE)
def test_passwords_may_hold_anything(database: Database, postgres_server: Postgres, password: str) -> None:
    logins = [Login(login.user, f"{login.user}: {password}") for login in (OWNER, SERVICE, SYSTEM)]
    owner, service, system = (postgres_server.url(database.name, *login) for login in logins)
    renew = sql.SQL("alter role {} password {}").format(sql.Identifier(OWNER.user), sql.Literal(logins[0][1]))
    logged = postgres_server.log.stat().st_size
    try:
        with psycopg.connect(database.superuser_url, autocommit=True) as connection:
            connection.execute(renew)
            # One login is renewed, the other is made.
            connection.execute(f"drop role {SYSTEM.user}")
            connection.execute(f"alter role {OWNER.user} set log_statement = 'all'")
        done = run(
            KONSTRUCT_MIGRATION_DATABASE_URL=owner,
            KONSTRUCT_DATABASE_URL=service,
            KONSTRUCT_SYSTEM_DATABASE_URL=system,
        )
        assert (done.returncode, "up to date" in done.stderr) == (0, True), done.stderr
        assert run("--check", KONSTRUCT_DATABASE_URL=service).returncode == 0
        settings = Settings.model_validate({"database_url": service, "system_database_url": system})
        for engine in (make_engine(settings), make_system_engine(settings)):
            engine.raw_connection().close()
            engine.dispose()
        wrong = run("--check", KONSTRUCT_DATABASE_URL=service.replace("konstruct_app%3A", "wrong"))
        assert wrong.returncode == 1
        log = postgres_server.log.read_bytes()[logged:].decode()
        assert "SCRAM-SHA-256" in log  # it does tell of the statements
        written = done.stderr + wrong.stderr + log
        assert password.strip() not in written
        assert quote(password) not in written
    finally:
        with psycopg.connect(database.superuser_url, autocommit=True) as connection:
            connection.execute(f"alter role {OWNER.user} password '{OWNER.password}'")
            connection.execute(f"alter role {OWNER.user} reset all")
        ensure_logins(database.owner_url, service=SERVICE, system=SYSTEM)


@pytest.mark.parametrize("password", ["top@canary", "top@can:ary", "top@can/ary", "t/o:p@canary?x"])
def test_a_password_that_is_not_encoded_is_not_repeated(password: str) -> None:
    urls = {
        f"KONSTRUCT_{name}DATABASE_URL": f"postgresql://user:{password}@127.0.0.1:1/x"
        for name in ("MIGRATION_", "", "SYSTEM_")
    }
    for done in (run(**urls), run("--check", **urls)):
        assert done.returncode == 2, done.stderr
        assert "%40" in done.stderr
        assert "can" not in done.stderr.replace("can be", "")
        assert "Traceback" not in done.stderr


def test_a_service_sees_whether_the_database_is_up_to_date(database: Database) -> None:
    service = {"KONSTRUCT_DATABASE_URL": database.service_url}
    assert run("--check", **service).returncode == 0
    database.execute("update alembic_version set version_num = 'of-a-newer-release'")
    assert run("--check", **service).returncode == 0
    database.execute("delete from alembic_version")
    done = run("--check", "--wait", "0.1", **service)
    assert done.returncode == 1
    assert "not up to date after 0.1 s" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_check_waits_for_the_database_and_needs_no_owner(database: Database) -> None:
    database.execute("revoke select on alembic_version from konstruct_service")
    with subprocess.Popen(
        [*MIGRATE, "--check", "--wait", "60"], env={"KONSTRUCT_DATABASE_URL": database.service_url}
    ) as waiting:
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(3)
        database.execute("grant select on alembic_version to konstruct_service")
        assert waiting.wait(60) == 0
