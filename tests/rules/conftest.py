"""Helm and promtool are built before the first test begins."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _tools(helm: Path, promtool: Path) -> None:
    """Make every test here one that needs them."""
