"""What the chart tells a Prometheus, turned into the configuration of one without an operator.

A Prometheus operator makes scrape jobs of ServiceMonitors and PodMonitors, and rule files of PrometheusRules.
Here the same manifests, rendered by Helm, become jobs with the same labels, whose targets are processes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.chart.rendering import Manifest, component, kinds

_SNAKE = re.compile("([A-Z])")


@dataclass(frozen=True)
class Target:
    """A process that plays a Pod."""

    component: str
    """Component of the chart that it is: ``llm-pool``, ``worker``, ``operator``."""
    pod: str
    """Name of the Pod that it plays."""
    address: str
    """Where it serves its metrics: host and port."""


def configuration(
    manifests: Sequence[Manifest], targets: Iterable[Target], folder: Path, *, every: str = "1s"
) -> dict[str, Any]:
    """Return a Prometheus's configuration: the chart's monitors and rules, scraped and evaluated `every`.

    Args:
        manifests: The rendered chart.
        targets: What is scraped.
        folder: Where the rules are written.
        every: How often it scrapes, and evaluates where the rules say nothing.
    """
    targets = list(targets)
    rules = kinds(manifests, "PrometheusRule")
    for rule in rules:
        (folder / f"{rule['metadata']['name']}.rules.yaml").write_text(yaml.safe_dump(rule["spec"]))
    monitors = kinds(manifests, "ServiceMonitor", "PodMonitor")
    return {
        "global": {"scrape_interval": every, "evaluation_interval": every},
        "rule_files": [str(folder / "*.rules.yaml")] if rules else [],
        "scrape_configs": [
            _job(monitor, [target for target in targets if target.component == component(monitor)])
            for monitor in monitors
        ],
    }


def _job(monitor: Manifest, targets: Sequence[Target]) -> dict[str, Any]:
    """Return one scrape job, as the operator would name and label it."""
    name, namespace = monitor["metadata"]["name"], monitor["metadata"]["namespace"]
    of_service = monitor["kind"] == "ServiceMonitor"
    [endpoint] = monitor["spec"]["endpoints" if of_service else "podMetricsEndpoints"]
    # Of a ServiceMonitor the job is the Service, which has the monitor's name in this chart.
    job = name if of_service else f"{namespace}/{name}"
    labels = {"job": job, "namespace": namespace, "endpoint": endpoint["port"]}
    if of_service:
        labels["service"] = name
    return {
        "job_name": f"{monitor['kind']}/{namespace}/{name}",
        "metrics_path": endpoint["path"],
        "scrape_interval": endpoint["interval"],
        "scrape_timeout": endpoint["interval"],
        "static_configs": [_static(target, labels) for target in targets],
        "relabel_configs": [
            {_SNAKE.sub(r"_\1", name).lower(): value for name, value in step.items()}
            for step in endpoint.get("relabelings", [])
        ],
    }


def _static(target: Target, labels: Mapping[str, str]) -> dict[str, Any]:
    own = {"pod": target.pod, "container": target.component}
    return {"targets": [target.address], "labels": {**labels, **own}}
