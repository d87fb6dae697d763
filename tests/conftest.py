"""Fixtures of every suite: real servers, a migrated database, a worker, a stub llm-pool, Kubernetes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis.configuration import set_hypothesis_home_dir

pytest_plugins = [
    "tests.support.stack",
    "tests.support.database",
    "tests.support.pool",
    "tests.support.worker",
    "tests.support.otlp",
    "tests.support.kubernetes",
]


# What hypothesis remembers of failures stays out of the repository.
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
set_hypothesis_home_dir(_CACHE / "konstruct" / "hypothesis")


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep together, for pytest-xdist, what shares servers: a file, and the one system that is observed."""
    for item in items:
        folder = item.path.parent.name
        item.add_marker(pytest.mark.xdist_group(folder if folder == "observability" else str(item.path)))
