"""A cell on servers that no other test uses: they may be stopped, and hold passwords of a test's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from konstruct_cli.stack.postgres import Postgres
from konstruct_cli.stack.redis import Redis
from shared.migrate import ensure_logins, migrate
from tests.support.database import SERVICE, SYSTEM, Database
from tests.support.pool import StubPool
from tests.support.worker import Cell, open_cell


@contextmanager
def open_own_cell(postgres: Postgres, redis: Redis, pool: StubPool, folder: Path) -> Iterator[Cell]:
    """Set up a cell on these servers."""
    owner_url = postgres.create_database("konstruct")
    migrate(owner_url)
    ensure_logins(owner_url, service=SERVICE, system=SYSTEM)
    database = Database(
        name="konstruct",
        superuser_url=owner_url,
        owner_url=owner_url,
        service_url=postgres.url("konstruct", *SERVICE),
        system_url=postgres.url("konstruct", *SYSTEM),
    )
    with open_cell(database, redis.url(), pool, folder, results=False) as made:
        yield made
