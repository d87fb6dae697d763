"""Manifests of each values file; helm is built before the first test begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chart.rendering import VALUES, Manifest, render_chart


@pytest.fixture(autouse=True)
def _helm(helm: Path) -> None:
    """Make every test here one that needs helm, so that it is built before and not within it."""


@pytest.fixture(params=sorted(VALUES))
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    """Render the chart with each values file in turn."""
    return render_chart(VALUES[request.param])
