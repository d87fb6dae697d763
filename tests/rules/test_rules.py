"""The rules: valid, of one release alone, made of metrics that there are, and the same in the plain file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from docs.metrics_table import DEPLOYMENT, GROUP, registries, rows
from tests.chart.rendering import (
    CHART,
    ENVIRONMENTS,
    IN_CHART,
    KITCHEN_SINK,
    ChartError,
    component,
    kinds,
    pod_templates,
    render_chart,
)
from tests.rules.promtool import run_promtool
from tests.rules.rendering import (
    EVERY_RELEASE,
    ON,
    PLAIN,
    alerts,
    plain,
    records,
    render_rules,
    rules,
    rules_file,
    selectors,
)

Values = list[Path | Mapping[str, Any]]

RENDERED: dict[str, Values] = {
    "defaults": [IN_CHART, ON],
    "every-release": [IN_CHART, EVERY_RELEASE],
    "kitchen-sink": [KITCHEN_SINK],
    "staging": [ENVIRONMENTS["staging"]],
    "prod": [ENVIRONMENTS["prod"]],
}

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
OBJECTIVES = SCHEMA["properties"]["monitoring"]["properties"]["rules"]["properties"]["objectives"][
    "properties"
]

OWN = {("namespace", "=", "here"), ("release", "=", "ours")}
"""What a series of a release is known by."""


def expressions(*values: Path | Mapping[str, Any]) -> list[str]:
    return [rule["expr"] for rule in rules(render_rules(*values, release="ours", namespace="here"))]


@pytest.mark.parametrize("name", RENDERED)
def test_promtool_finds_them_valid(name: str, tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(rules_file(*RENDERED[name]))
    said = run_promtool("check", "rules", "--lint=all", "--lint-fatal", path)
    assert int(re.findall(r"SUCCESS: (\d+) rules found", said)[0]) > 90


def test_the_plain_file_is_what_the_chart_makes() -> None:
    assert PLAIN.read_text() == plain(), "run `python -m tests.rules.rendering`"


def test_they_are_off_unless_asked_for() -> None:
    assert kinds(render_chart(IN_CHART), "PrometheusRule") == []
    (made,) = kinds(render_chart(KITCHEN_SINK), "PrometheusRule")
    assert made["metadata"]["labels"]["release"] == "prometheus"


def test_a_release_reads_its_own_series_alone() -> None:
    """Two releases in one cluster, or in one namespace: no ratio is of both."""
    read = list(selectors(expressions(IN_CHART, ON)))
    assert len(read) > 100
    for selector in read:
        assert set(selector.matchers) >= OWN, selector
    for monitor in kinds(
        render_chart(KITCHEN_SINK, release="ours", namespace="here"), "ServiceMonitor", "PodMonitor"
    ):
        (endpoint,) = monitor["spec"].get("endpoints") or monitor["spec"]["podMetricsEndpoints"]
        assert endpoint["relabelings"] == [{"targetLabel": "release", "replacement": "ours"}]


def test_releases_are_kept_apart_where_all_are_read() -> None:
    for rule in rules(render_rules(IN_CHART, EVERY_RELEASE)):
        for selector in selectors([rule["expr"]]):
            assert not {label for label, _, _ in selector.matchers} & {"namespace", "release"}
        for labels in re.findall(r"\b(?:sum|avg|max|min) by \(([^)]*)\)", rule["expr"]):
            assert labels.startswith("namespace, release"), rule["expr"]
        assert not re.search(r"\b(?:sum|avg|max|min|count)\s*\(", rule["expr"]), rule["expr"]


def series() -> dict[str, dict[str, set[str]]]:
    """List each series' name with the values that its labels can have."""
    found: dict[str, dict[str, set[str]]] = {}
    for registry in registries().values():
        for family in registry.collect():
            for sample in family.samples:
                labels = found.setdefault(sample.name, {})
                for label, value in sample.labels.items():
                    labels.setdefault(label, set()).add(value)
    return found


def test_they_are_made_of_what_the_code_counts() -> None:
    """Names, labels and values: a rule on what cannot occur would be quiet for ever."""
    there, recorded = series(), records(render_rules(IN_CHART, ON))
    assert len(there) > len(rows())
    for selector in selectors(expressions(IN_CHART, ON)):
        if ":" in selector.name:
            assert selector.name in recorded
            continue
        assert selector.name in there, selector
        for label, operator, value in set(selector.matchers) - OWN:
            known = there[selector.name][label]
            for one in value.split("|") if "~" in operator else [value]:
                assert one in known, (selector, one)
                assert one not in (GROUP, DEPLOYMENT)


@pytest.mark.parametrize(
    ("objective", "metric"),
    [
        ("latency", "konstruct_llm_request_duration_seconds"),
        ("queueDelay", "konstruct_message_queue_seconds"),
        ("configLag", "konstruct_agent_config_lag_seconds"),
    ],
)
def test_a_threshold_is_a_bound_of_the_histogram(objective: str, metric: str) -> None:
    """Between two bounds nobody knows how many there were."""
    bounds = {float(bound) for bound in series()[f"{metric}_bucket"]["le"]} - {float("inf")}
    assert set(OBJECTIVES[objective]["properties"]["seconds"]["enum"]) == bounds


def test_windows_are_values() -> None:
    values = {"monitoring.rules.burnRates.fast": {"factor": 2, "long": "2m", "short": "30s", "for": "0s"}}
    names = records(render_rules(IN_CHART, ON, values))
    assert {f"konstruct:llm_failed:ratio_rate{window}" for window in ("2m", "30s", "5m", "6h")} <= names
    assert "konstruct:llm_failed:ratio_rate1h" not in names


def test_an_objective_that_no_alert_could_watch_is_refused() -> None:
    with pytest.raises(ChartError, match="KonstructLLMFailing could never fire at the fast pace"):
        render_rules(IN_CHART, ON, {"monitoring.rules.objectives.answered": 0.9})


def test_alerts_say_whose_they_are() -> None:
    """Enough to route by, and nothing of a single request."""
    for rule in alerts(render_rules(KITCHEN_SINK)):
        assert rule["labels"]["severity"] in ("page", "ticket"), rule["alert"]
        assert rule["labels"]["team"] == "agents"
        assert rule["labels"].keys() <= {"severity", "team", "burn_rate", "component"}
        assert "$labels.release" in rule["annotations"]["summary"]
        assert rule["annotations"]["description"].endswith(".")
        assert rule["annotations"]["runbook_url"].startswith("https://runbooks.example/konstruct/Konstruct")


def test_the_scrape_configuration_finds_what_the_monitors_find() -> None:
    """Its path, ports and labels are those of the chart's pods."""
    run_promtool("check", "config", PLAIN.with_name("prometheus.yaml"))
    (job,) = yaml.safe_load(PLAIN.with_name("prometheus.yaml").read_text())["scrape_configs"]
    wanted = re.compile(job["relabel_configs"][1]["regex"])
    found = set()
    for _, pod in pod_templates(render_chart(KITCHEN_SINK)):
        labels = pod["metadata"]["labels"]
        for container in pod["spec"]["containers"]:
            for port in container.get("ports", ()):
                if wanted.fullmatch(f"{component(pod)};{port['name']}"):
                    found.add((component(pod), port["name"]))
                    assert labels["app.kubernetes.io/instance"] == "konstruct"
                    assert labels["app.kubernetes.io/name"] == job["relabel_configs"][0]["regex"]
    assert found == {("llm-pool", "http"), ("worker", "metrics"), ("operator", "metrics")}


def test_two_releases_are_counted_apart(tmp_path: Path) -> None:
    """In one namespace, one of them degraded: its ratio is its own, and only its alert fires."""
    files = []
    for release in ("ours", "theirs"):
        files.append(f"{release}.yaml")
        (tmp_path / files[-1]).write_text(rules_file(IN_CHART, ON, release=release, namespace="here"))
    answers = {("ours", "fast"): "0+10x20", ("theirs", "quality"): "0+30x20"}
    test = {
        "interval": "1m",
        "input_series": [
            {
                "series": f'konstruct_llm_requests_total{{namespace="here",release="{release}",'
                f'requested_group="quality",served_group="{served}",outcome="ok"}}',
                "values": answers.get((release, served), "0x20"),
            }
            for release in ("ours", "theirs")
            for served in ("quality", "fast")
        ],
        "promql_expr_test": [
            {
                "expr": "konstruct:llm_degraded:ratio_rate5m",
                "eval_time": "10m",
                "exp_samples": [
                    {
                        "labels": "konstruct:llm_degraded:ratio_rate5m"
                        f'{{namespace="here",release="{release}",requested_group="quality"}}',
                        "value": value,
                    }
                    for release, value in (("ours", 1), ("theirs", 0))
                ],
            },
            {
                "expr": 'count by (release) (ALERTS{alertname="KonstructLLMDegraded",alertstate="firing"})',
                "eval_time": "10m",
                "exp_samples": [{"labels": '{release="ours"}', "value": 1}],
            },
        ],
    }
    file = tmp_path / "tests.yaml"
    file.write_text(yaml.safe_dump({"rule_files": files, "evaluation_interval": "1m", "tests": [test]}))
    run_promtool("test", "rules", file)
