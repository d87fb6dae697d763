"""Real servers for tests, started the way ``konstruct up`` starts them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from konstruct_cli.stack.postgres import Postgres
from konstruct_cli.stack.redis import Redis


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """Run one PostgreSQL for the whole session; make a database of your own on it."""
    with Postgres(tmp_path_factory.mktemp("postgres") / "data", durable=False) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """Run one Redis for the whole session; it has 16 databases."""
    with Redis(tmp_path_factory.mktemp("redis") / "data", appendonly=False) as server:
        yield server
