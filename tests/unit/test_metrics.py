"""Every metric is documented as the code has it, and is named as Prometheus wants."""

from __future__ import annotations

import re

import pytest
from prometheus_client import generate_latest

from docs.metrics_table import PAGE, Row, rows, with_metrics_table
from llm_pool.metrics import Metrics
from shared.contract import Usage

ROWS = rows()


def test_the_table_is_what_the_code_has() -> None:
    page = PAGE.read_text()
    assert page == with_metrics_table(page), "run `python docs/metrics_table.py`"
    for row in ROWS:
        assert f"| `{row.name}` |" in page


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_names_and_help_are_in_order(row: Row) -> None:
    assert re.fullmatch(r"konstruct_[a-z_]+", row.name)
    assert row.name.endswith("_total") == (row.type == "counter")
    assert row.type != "histogram" or row.name.endswith("_seconds")
    assert len(row.meaning) > 10
    assert "|" not in row.meaning


def test_no_label_could_be_anybodys_name() -> None:
    """A new label is a new dimension: it is bounded, or it does not belong here."""
    assert {label for row in ROWS for label in row.labels} == {
        "component", "deployment", "direction", "from_group", "group", "outcome", "ready", "reason",
        "requested_group", "served_group", "state", "to_group", "version",
    }  # fmt: skip


def test_the_pools_own_writer_writes_what_the_clients_does() -> None:
    metrics = Metrics()
    metrics.prepare({'a"b\\c': 2, "fast": 0}, ["openai/gpt-4o#2"], {("fast", 'a"b\\c')}, lambda: {"x": True})
    for _ in range(2):
        metrics.finished("fast", "fast", "ok", 0.3, 0.1)
        metrics.attempt("openai/gpt-4o#2", "timeout", 1e-9)
        metrics.reply("fast", Usage(prompt_tokens=10**9, completion_tokens=1), 0.1 + 0.2)
        metrics.in_flight.set(-1)
        assert metrics.render() == generate_latest(metrics.registry)
