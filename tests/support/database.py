"""A migrated database for each test, owned by a role that is no superuser, as in production."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
import pytest
from sqlalchemy import Engine

from konstruct_cli.stack.postgres import Postgres
from shared.config import Settings
from shared.db import make_engine, make_system_engine
from shared.migrate import Login, ensure_logins, migrate

OWNER = Login("konstruct_owner", "owner-password")
SERVICE = Login("konstruct_app", "service-password")
SYSTEM = Login("konstruct_sys", "system-password")

_TEMPLATE = "konstruct_template"
_numbers = itertools.count()


@dataclass(frozen=True)
class Database:
    """The URLs of one test's database."""

    name: str
    superuser_url: str
    owner_url: str
    service_url: str
    system_url: str

    def settings(self, **more: object) -> Settings:
        """Settings for this database."""
        urls = {"database_url": self.service_url, "system_database_url": self.system_url}
        return Settings.model_validate({**urls, **more})

    def rows(self, query: str, *parameters: object) -> list[tuple[object, ...]]:
        """Run `query` as the superuser, who sees every tenant."""
        with psycopg.connect(self.superuser_url) as connection:
            return connection.execute(query, parameters).fetchall()

    def stranded(self) -> list[object]:
        """Return the ids of messages that nothing will ever work on, whatever the longest lease is."""
        if not self.rows("select from pg_proc where proname = 'konstruct_stranded'"):
            return []
        return [row[0] for row in self.rows("select message_id from konstruct_stranded(2, 7200)")]

    def execute(self, statement: str) -> None:
        """Run a statement as the superuser."""
        with psycopg.connect(self.superuser_url) as connection:
            connection.execute(statement)

    def rewrite(self, statement: str) -> None:
        """Run a statement as a superuser who goes past triggers: what is recorded is changed all the same."""
        with psycopg.connect(self.superuser_url) as connection:
            connection.execute("set session_replication_role = replica")
            connection.execute(statement)


def make_template(server: Postgres) -> str:
    """Migrate one database of a new server; others are copies of it."""
    with psycopg.connect(server.superuser_url(), autocommit=True) as connection:
        connection.execute(f"create role {OWNER.user} login createrole password '{OWNER.password}'")
        connection.execute(f"create database {_TEMPLATE} owner {OWNER.user}")
    owner_url = server.url(_TEMPLATE, *OWNER)
    migrate(owner_url)
    ensure_logins(owner_url, service=SERVICE, system=SYSTEM)
    return _TEMPLATE


@contextmanager
def fresh_database(server: Postgres, template: str) -> Iterator[Database]:
    """Make a copy of the template, and drop it at the end."""
    name = f"konstruct_{next(_numbers)}"
    _as_superuser(server, f"create database {name} template {template} owner {OWNER.user}")
    yield Database(
        name=name,
        superuser_url=server.superuser_url(name),
        owner_url=server.url(name, *OWNER),
        service_url=server.url(name, *SERVICE),
        system_url=server.url(name, *SYSTEM),
    )
    _as_superuser(server, f"drop database {name} with (force)")


def _as_superuser(server: Postgres, statement: str) -> None:
    # A connection for each: the server may be killed and started again in between.
    with psycopg.connect(server.superuser_url(), autocommit=True) as connection:
        connection.execute(statement)


@pytest.fixture(scope="session")
def template_database(postgres_server: Postgres) -> str:
    """Migrate one database; the tests' own are copies of it."""
    return make_template(postgres_server)


@pytest.fixture
def database(postgres_server: Postgres, template_database: str) -> Iterator[Database]:
    """Make a migrated database that no other test sees, and that no test leaves a stranded message in."""
    with fresh_database(postgres_server, template_database) as made:
        yield made
        assert made.stranded() == [], "nothing will ever work on these messages"


@pytest.fixture
def engine(database: Database) -> Iterator[Engine]:
    """Return a service engine with one connection: whatever it carries over shows at once."""
    made = make_engine(database.settings(worker_concurrency=1))
    yield made
    made.dispose()


@pytest.fixture
def system_engine(database: Database) -> Iterator[Engine]:
    """Return a system engine."""
    made = make_system_engine(database.settings())
    yield made
    made.dispose()
