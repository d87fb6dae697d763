"""The dashboards: the files in the chart are what the code makes, and Grafana can show them as they are."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards.__main__ import files
from dashboards.board import GRID, TAG, as_json
from dashboards.queries import FILES, further_queries, load_all, panels, queries
from docs.metrics_table import rows

LOADED = load_all()

IN_NO_DASHBOARD = {
    "konstruct_start_time_seconds": "tells counters that began again apart; Kubernetes counts restarts",
}
"""Metrics that are left out of the dashboards, and why."""

each = pytest.mark.parametrize("loaded", LOADED.values(), ids=LOADED)


def test_the_files_are_what_the_code_makes() -> None:
    found = {path.name: path.read_text() for path in FILES.iterdir()}
    assert found == files(), "run `python -m dashboards`"


def test_their_names_stay() -> None:
    """Links, bookmarks and a reader's own copies go by them."""
    assert {name: loaded["uid"] for name, loaded in LOADED.items()} == {
        name: f"konstruct-{name}" for name in ("overview", "providers", "agents", "workers")
    }
    titles = [loaded["title"] for loaded in LOADED.values()]
    assert len(set(titles)) == len(titles)
    assert all(title.startswith("Konstruct / ") for title in titles)


@each
def test_grafana_loads_it(loaded: dict[str, Any]) -> None:
    assert loaded["schemaVersion"] >= 36
    assert "id" not in loaded
    assert loaded["tags"] == [TAG]
    ids = [panel["id"] for panel in loaded["panels"]]
    assert ids == list(range(1, len(ids) + 1))
    for panel in panels(loaded):
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, panel["title"]
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references), panel["title"]


@each
def test_it_has_only_what_the_schema_knows(loaded: dict[str, Any]) -> None:
    """The models are made from Grafana's schema; of what they read nothing is lost but two old fields."""
    read = as_json(Dashboard.from_json(loaded))
    for annotation in read["annotations"]["list"]:
        annotation |= {"titleFormat": annotation["name"], "textFormat": "{{requested_group}}{{alertname}}"}
    assert read == loaded


@each
def test_no_panel_covers_another(loaded: dict[str, Any]) -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in loaded["panels"]:
        grid = panel["gridPos"]
        assert grid["x"] + grid["w"] <= GRID, panel["title"]
        columns = range(grid["x"], grid["x"] + grid["w"])
        for cell in itertools.product(columns, range(grid["y"], grid["y"] + grid["h"])):
            assert cell not in taken, f"{panel['title']} covers {taken.get(cell)}"
            taken[cell] = panel["title"]
    # Nor is there a gap: Grafana would move the panels up, and what is read is not what was written.
    assert len(taken) == GRID * (max(y for _, y in taken) + 1)


@each
def test_every_panel_explains_itself(loaded: dict[str, Any]) -> None:
    for panel in panels(loaded):
        assert re.fullmatch(r"[A-Z`].{20,}\.", panel["description"], re.DOTALL), panel["title"]
        for target in panel["targets"]:
            assert target["legendFormat"] != "__auto" or len(panel["targets"]) == 1, panel["title"]
        if panel["type"] in ("stat", "timeseries"):
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
    titles = [(panel["title"], panel["type"]) for panel in panels(loaded)]
    assert len(set(titles)) == len(titles)


@each
def test_a_verdict_has_a_word_for_what_nobody_tells_about(loaded: dict[str, Any]) -> None:
    """A panel without data must never look like a good one."""
    for panel in panels(loaded):
        if panel["type"] == "stat":
            assert panel["fieldConfig"]["defaults"]["noValue"].startswith("no ")
            for target in panel["targets"]:
                if "vector(-2)" in target["expr"]:
                    (mapping,) = panel["fieldConfig"]["defaults"]["mappings"]
                    assert mapping["options"]["-2"]["color"] == "red", panel["title"]


@each
def test_every_variable_is_there_and_used(loaded: dict[str, Any]) -> None:
    resolved = [expression for _, expression in (*queries(loaded), *further_queries(loaded))]
    assert not [expression for expression in resolved if re.search(r"\$[^\d]", expression)]
    names = {variable["name"] for variable in loaded["templating"]["list"]} - {"datasource"}
    asked = " ".join(target["expr"] for panel in panels(loaded) for target in panel["targets"])
    assert names == {name for name in names if f'"${name}"' in asked}


def test_every_metric_is_in_a_dashboard_or_left_out_for_a_reason() -> None:
    """What nobody looks at helps nobody in an outage. A record stands for what it is made of."""
    asked = " ".join(expression for loaded in LOADED.values() for _, expression in queries(loaded))
    shown = {row.name for row in rows() if _reads(row.name, asked)}
    assert {row.name for row in rows()} - shown == set(IN_NO_DASHBOARD)


def _reads(metric: str, expressions: str) -> bool:
    """Whether a metric is asked for by its own name, by a histogram's, or by that of a record."""
    own = re.escape(metric)
    record = own.replace("konstruct_", "konstruct:", 1)
    return re.search(rf"\b(?:{own}(?:_bucket|_count|_sum)?\b|{record}:)", expressions) is not None


@each
def test_rates_are_over_windows_that_fit_the_scrapes(loaded: dict[str, Any]) -> None:
    """A step of at least ``monitoring.interval``, from which Grafana makes ``$__rate_interval``."""
    for panel in panels(loaded):
        for target in panel["targets"]:
            assert target["interval"] == "30s", panel["title"]
            for window in re.findall(r"\[([^\]]+)\]", target["expr"]):
                assert window in ("$__rate_interval", "$__range", "5m", "15m", "1h", "1d:30s"), panel["title"]
