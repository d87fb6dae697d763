"""Fixtures of every suite: real servers, a migrated database, a worker, a stub llm-pool, Kubernetes."""

from __future__ import annotations

pytest_plugins = [
    "tests.support.stack",
    "tests.support.database",
    "tests.support.pool",
    "tests.support.worker",
    "tests.support.otlp",
    "tests.support.kubernetes",
]
