"""The chart carries the dashboards to where Grafana's sidecar finds them."""

from __future__ import annotations

import json

import yaml

from dashboards.panels import MIN_STEP
from dashboards.queries import FILES, load_all
from tests.chart.rendering import CHART, ENVIRONMENTS, IN_CHART, KITCHEN_SINK, Manifest, kinds, render_chart

LARGEST = 1 << 20
"""Bytes that a ConfigMap may have."""


def dashboards(manifests: list[Manifest]) -> list[Manifest]:
    """List the ConfigMaps that hold a dashboard."""
    return [one for one in kinds(manifests, "ConfigMap") if "-dashboard-" in one["metadata"]["name"]]


def test_a_rendered_dashboard_is_the_file() -> None:
    made = dashboards(render_chart(ENVIRONMENTS["prod"]))
    rendered = {key: text for one in made for key, text in one["data"].items()}
    assert rendered == {f"konstruct-{path.name}": path.read_text() for path in FILES.glob("*.json")}
    assert [json.loads(text)["uid"] for text in rendered.values()] == [
        loaded["uid"] for loaded in load_all().values()
    ]
    for one in made:
        assert len(json.dumps(one)) < LARGEST, one["metadata"]["name"]
        assert len(one["data"]) == 1


def test_they_link_to_the_runbooks_where_these_can_be_read() -> None:
    at = "https://runbooks.example/konstruct"
    values = {"monitoring.dashboards.enabled": True, "monitoring.rules.runbookBaseUrl": at}
    for one in dashboards(render_chart(IN_CHART, values)):
        ((_, text),) = one["data"].items()
        rendered = json.loads(text)
        assert rendered["links"].pop()["url"] == at
        assert rendered == load_all()[rendered["uid"].removeprefix("konstruct-")]


def test_the_sidecar_finds_them_by_their_label() -> None:
    for one in dashboards(render_chart(IN_CHART, {"monitoring.dashboards.enabled": True})):
        assert one["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert one["metadata"]["namespace"] == "konstruct"
        assert "annotations" not in one["metadata"]


def test_namespace_labels_and_folder_can_be_chosen() -> None:
    for one in dashboards(render_chart(KITCHEN_SINK)):
        metadata = one["metadata"]
        assert metadata["namespace"] == "monitoring"
        assert {"team": "agents", "grafana_dashboard": "1"}.items() <= metadata["labels"].items()
        assert metadata["annotations"] == {"grafana_folder": "Konstruct"}
        assert metadata["name"].startswith("sink-dashboard-")


def test_they_are_on_where_there_is_monitoring() -> None:
    counts = {name: len(dashboards(render_chart(values))) for name, values in ENVIRONMENTS.items()}
    assert counts == {"dev": 0, "staging": len(load_all()), "prod": len(load_all())}


def test_their_step_is_that_of_the_scrapes() -> None:
    assert yaml.safe_load((CHART / "values.yaml").read_text())["monitoring"]["interval"] == MIN_STEP
