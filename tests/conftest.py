"""Fixtures of every suite: real servers, a migrated database of one's own, a worker, a stub llm-pool."""

from __future__ import annotations

pytest_plugins = [
    "tests.support.stack",
    "tests.support.database",
    "tests.support.pool",
    "tests.support.worker",
]
