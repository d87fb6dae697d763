"""What several files of integration tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from konstruct_cli.stack.postgres import Postgres
from konstruct_cli.stack.redis import Redis
from tests.support.own_cell import open_own_cell
from tests.support.pool import StubPool
from tests.support.worker import Cell


@pytest.fixture(params=[False, True], ids=["own calls", "LiteLLM's calls"])
def through_litellm(request: pytest.FixtureRequest) -> bool:
    """Run each test with both ways of sending: the rule is the pool's, whoever sends."""
    return bool(request.param)


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[Postgres]:
    with Postgres(tmp_path / "postgres", durable=False) as server:
        yield server


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    with Redis(tmp_path / "redis", appendonly=True) as server:
        yield server


@pytest.fixture
def own_cell(postgres: Postgres, redis: Redis, stub_pool: StubPool, tmp_path: Path) -> Iterator[Cell]:
    """Set up a cell whose servers may be stopped: no other test uses them."""
    with open_own_cell(postgres, redis, stub_pool, tmp_path) as made:
        yield made
