"""What the dashboards ask is answered: by a real Prometheus that saw everything fail and recover."""

from __future__ import annotations

import pytest

from dashboards.queries import further_queries, load_all, queries
from tests.observability.conftest import Run
from tests.observability.test_rules import MADE_BY_PROMETHEUS

LOADED = load_all()

WINDOW = "10s"
"""Dashboards' window for rates: some scrapes."""


@pytest.mark.parametrize("name", LOADED)
def test_every_query_has_data(observed: Run, name: str) -> None:
    time_range = f"{observed.end - observed.start:.0f}s"
    known = observed.api.names() | MADE_BY_PROMETHEUS
    asked = [
        *queries(LOADED[name], window=WINDOW, time_range=time_range),
        *further_queries(LOADED[name]),
    ]
    assert asked
    for title, expression in asked:
        unknown = {selector.metric for selector in observed.api.selectors(expression)} - known
        assert not unknown, (title, expression)
        answer = observed.api.query_range(expression, observed.start, observed.end, 1)
        assert answer, (title, expression)
