"""Fixtures of every suite: real servers, a migrated database, a worker, a stub llm-pool, Kubernetes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis.configuration import set_hypothesis_home_dir
from xdist.scheduler import LoadFileScheduling

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


class _ByFile(LoadFileScheduling):  # type: ignore[misc]
    """Keeps together what shares servers: a file, and the one system that is observed.

    Not by marks of groups: with the node ids of pytest 9.2, pytest-xdist 3.8 takes no notice of them.
    """

    def _split_scope(self, nodeid: str) -> str:
        scope = str(super()._split_scope(nodeid))
        folder = scope.rpartition("/")[0]
        return folder if folder.endswith("observability") else scope


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadFileScheduling:
    """Choose who runs which tests when several processes do."""
    return _ByFile(config, log)
