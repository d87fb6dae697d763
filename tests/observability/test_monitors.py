"""The chart's monitors and rules in the hands of a real Prometheus operator.

It reads them from a real API server that knows its real kinds, and makes the configuration of a Prometheus of
them. That is compared with what the other tests here scrape by.
"""

from __future__ import annotations

import base64
import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from konstruct_cli.stack.process import ManagedProcess
from tests.chart.rendering import VALUES, Manifest, kinds, render_chart
from tests.observability.scraping import Target, configuration
from tests.observability.stage import HOME, manifests
from tests.support.control_plane import ControlPlane
from tests.support.prometheus_operator import definitions, prometheus
from tests.support.toolchain import tool
from tests.support.waiting import eventually

NAME = "watching"
"""Name of the Prometheus."""

OTHERS = "others"
"""A namespace that it does not look into."""

OURS = ("ServiceMonitor", "PodMonitor", "PrometheusRule")
"""The operator's kinds that the chart has objects of."""


@pytest.fixture(scope="module")
def prometheus_operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Run a Prometheus operator on an API server that holds the chart's objects, and a Prometheus to make."""
    folder = tmp_path_factory.mktemp("prometheus-operator")
    with ControlPlane(folder / "plane", controllers=()) as plane:
        plane.apply(*definitions())
        plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        for space in (HOME, OTHERS):
            plane.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}})
        plane.apply(*kinds(manifests(), *OURS), prometheus(NAME, HOME))
        command: list[str | Path] = [tool("prometheus-operator")]
        command += ["--web.listen-address=127.0.0.1:0", "--log-level=warn"]
        with ManagedProcess(
            "prometheus-operator", command, log=folder / "operator.log", env=plane.environment()
        ):
            yield plane


@pytest.fixture(scope="module")
def made(prometheus_operator: ControlPlane) -> dict[str, Any]:
    """Return the scrape jobs that the operator has made, by name."""
    secret = eventually(
        lambda: prometheus_operator.find("secret", f"prometheus-{NAME}", f"--namespace={HOME}"),
        within_s=60,
        what="a configuration",
    )
    assert secret is not None
    told = yaml.safe_load(gzip.decompress(base64.b64decode(secret["data"]["prometheus.yaml.gz"])))
    return {job["job_name"].lower(): job for job in told["scrape_configs"]}


@pytest.mark.parametrize("name", sorted(VALUES))
def test_its_real_kinds_take_the_charts_objects(prometheus_operator: ControlPlane, name: str) -> None:
    """Every field is known and valid: unknown ones are refused here, not dropped."""
    for one in kinds(render_chart(VALUES[name], namespace=OTHERS), *OURS):
        prometheus_operator.apply(one)


def test_it_makes_the_jobs_that_the_tests_scrape_by(made: dict[str, Any], tmp_path: Path) -> None:
    components = ("llm-pool", "worker", "operator")
    ours = configuration(manifests(), [Target(name, name, "127.0.0.1:1") for name in components], tmp_path)
    assert len(made) == len(ours["scrape_configs"]) == len(components)
    for job in ours["scrape_configs"]:
        theirs = made[f"{job['job_name']}/0".lower()]
        for same in ("metrics_path", "scrape_interval"):
            assert theirs[same] == job[same]
        labels = job["static_configs"][0]["labels"]
        fixed = {
            step["target_label"]: step["replacement"]
            for step in theirs["relabel_configs"]
            if "target_label" in step and "source_labels" not in step
        }
        assert fixed["endpoint"] == labels["endpoint"]
        assert fixed["release"] == HOME
        taken = {step.get("target_label") for step in theirs["relabel_configs"]}
        assert set(labels) | {"release"} <= taken
        if job["job_name"].startswith("PodMonitor"):
            assert fixed["job"] == labels["job"]
        else:
            assert [labels["job"]] == services(theirs)


def services(job: dict[str, Any]) -> list[str]:
    """Return the names of the chart's Services that a job keeps: one of them names it."""
    keeps = [step for step in job["relabel_configs"] if step.get("action") == "keep"]
    wanted = {
        step["source_labels"][0].removeprefix("__meta_kubernetes_service_label_"): step["regex"]
        for step in keeps
        if step["source_labels"][0].startswith("__meta_kubernetes_service_label_")
    }
    assert wanted

    def kept(service: Manifest) -> bool:
        found = {
            name.replace(".", "_").replace("/", "_").replace("-", "_"): value
            for name, value in service["metadata"]["labels"].items()
        }
        return all(f"({found.get(name)});true" == regex for name, regex in wanted.items())

    return [one["metadata"]["name"] for one in kinds(manifests(), "Service") if kept(one)]


def test_it_hands_the_rules_on_as_they_are(prometheus_operator: ControlPlane, made: dict[str, Any]) -> None:
    found = prometheus_operator.get("configmap", f"prometheus-{NAME}-rulefiles-0", f"--namespace={HOME}")
    [text] = found["data"].values()
    [rule] = kinds(manifests(), "PrometheusRule")
    assert yaml.safe_load(text)["groups"] == rule["spec"]["groups"]
