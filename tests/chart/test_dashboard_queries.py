"""What the dashboards ask: it parses, and every metric, label and value that it names exists."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from dashboards.queries import Loaded, further_queries, load_all, queries
from docs.metrics_table import DEPLOYMENT, GROUP, VERSION, rows
from tests.chart.rendering import IN_CHART, kinds, render_chart

LOADED = load_all()

each = pytest.mark.parametrize("loaded", LOADED.values(), ids=LOADED)

TARGET = {"namespace", "release", "job", "instance", "pod"}
"""Labels that a scrape gives every series."""

MADE = {"name"}
"""Labels that the queries themselves make."""

ALERTS = {"alertname", "alertstate"}
"""Labels of Prometheus's own series about alerts."""

Labels = dict[str, set[str]]
"""Labels of a metric, with their values; none listed: any."""


def scraped() -> dict[str, Labels]:
    """List every series name that the three processes expose, with its labels."""
    anything = {GROUP, DEPLOYMENT, VERSION}
    found: dict[str, Labels] = {}
    for row in rows():
        labels = {
            label: set() if anything & set(values) and set(values) <= anything else set(values)
            for label, values in row.labels.items()
        }
        if row.type == "histogram":
            found |= {f"{row.name}_{part}": labels for part in ("count", "sum")}
            found[f"{row.name}_bucket"] = labels | {"le": set()}
        else:
            found[row.name] = labels
    return found


def recorded() -> dict[str, Labels]:
    """List what the chart's recording rules make, with the labels that they keep."""
    (made,) = kinds(
        render_chart(IN_CHART, {"monitoring.enabled": True, "monitoring.rules.enabled": True}),
        "PrometheusRule",
    )
    found: dict[str, Labels] = {}
    for group in made["spec"]["groups"]:
        for rule in group["rules"]:
            if "record" in rule:
                kept = re.findall(r"\bby ?\(([^)]*)\)", rule["expr"])
                labels = {label: set[str]() for one in kept for label in re.split(r",\s*", one)}
                for earlier, _ in selectors(rule["expr"]):  # a rule of what others have recorded
                    labels |= found.get(earlier, {})
                found[rule["record"]] = labels
    return found


@pytest.fixture(scope="module")
def known(helm: Path) -> dict[str, Labels]:
    """List everything that may be asked for."""
    return scraped() | recorded() | {"ALERTS": {label: set() for label in ALERTS}}


def everything(loaded: Loaded) -> list[tuple[str, str]]:
    """List every query of a dashboard."""
    return [*queries(loaded), *further_queries(loaded)]


def selectors(expression: str) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """List (metric, matchers: label, operator, value) of everything that is selected."""
    for metric, matchers in re.findall(r"\b((?:konstruct|ALERTS)[\w:]*)(?:\{([^}]*)\})?", expression):
        yield metric, re.findall(r'(\w+)(=~|!~|!=|=)"([^"]*)"', matchers)


@each
def test_every_metric_exists(loaded: Loaded, known: dict[str, Labels]) -> None:
    for panel, expression in everything(loaded):
        names = [metric for metric, _ in selectors(expression)]
        assert names, f"{panel}: nothing is asked for"
        assert set(names) <= known.keys(), f"{panel}: no such metric: {set(names) - known.keys()}"


@each
def test_every_matcher_is_on_a_label_and_a_value_of_its_metric(
    loaded: Loaded, known: dict[str, Labels]
) -> None:
    for panel, expression in everything(loaded):
        for metric, matchers in selectors(expression):
            for label, operator, value in matchers:
                if label in TARGET:
                    continue
                assert label in known[metric], f"{panel}: {metric} has no label {label}"
                values = known[metric][label]
                wanted = value.split("|") if "~" in operator and ".+" not in value else [value]
                if values and ".+" not in value:
                    assert set(wanted) <= values | {"_unknown"}, f"{panel}: {label}{operator}{value}"


@each
def test_every_label_that_is_kept_or_shown_is_there(loaded: Loaded, known: dict[str, Labels]) -> None:
    for panel in loaded["panels"]:
        for target in panel.get("targets", []):
            metrics = [metric for metric, _ in selectors(target["expr"])]
            there = {label for metric in metrics for label in known[metric]} | TARGET | MADE
            kept = {
                label
                for labels in re.findall(r"\b(?:by|on) \(([^)]+)\)", target["expr"])
                for label in labels.split(", ")
            }
            shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert kept | shown <= there, f"{panel['title']}: {kept | shown - there}"


@each
def test_promtool_can_parse_every_query(promtool: Path, tmp_path: Path, loaded: Loaded) -> None:
    rules = [
        {"record": f"konstruct:query:{number}", "expr": expression}
        for number, (_, expression) in enumerate(everything(loaded))
    ]
    path = tmp_path / "queries.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    done = subprocess.run(
        [promtool, "check", "rules", path], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout


def test_a_query_that_does_not_parse_would_be_found(promtool: Path, tmp_path: Path) -> None:
    path = tmp_path / "queries.yaml"
    path.write_text("groups: [{name: queries, rules: [{record: a, expr: 'sum by (le (up)'}]}]")
    done = subprocess.run([promtool, "check", "rules", path], capture_output=True, check=False, timeout=60)
    assert done.returncode != 0
