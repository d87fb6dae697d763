"""Rewrites the table of metrics: it is read from the registries of the three processes at their start."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from konstruct_operator.metrics import OperatorMetrics
from llm_pool.metrics import Metrics
from orchestrator.metrics import WorkerMetrics

PAGE = Path(__file__).parent / "metrics.md"
"""The page that holds the table."""

GROUP = "each group"
"""Stands for the model groups of the configuration."""

DEPLOYMENT = "each deployment"
"""Stands for the deployments of the configuration."""

VERSION = "the version"
"""Stands for the version, which changes with every release."""

_VERSION_LABEL = "version"


class Row(NamedTuple):
    """One metric."""

    name: str
    """Its name, as it is exposed."""

    type: str
    """``counter``, ``gauge`` or ``histogram``."""

    labels: dict[str, list[str]]
    """Every value of each label."""

    meaning: str
    """Its help text."""

    components: list[str]
    """What exposes it."""


def registries() -> dict[str, CollectorRegistry]:
    """Make the registry of each process with every series that it can have."""
    pool = Metrics()
    pool.prepare({GROUP: 1}, [DEPLOYMENT], {(GROUP, GROUP)}, lambda: {DEPLOYMENT: False})
    return {
        "llm-pool": pool.registry,
        "worker": WorkerMetrics().registry,
        "operator": OperatorMetrics().registry,
    }


def rows() -> list[Row]:
    """Describe every metric once, in the order of the code."""
    found: dict[str, Row] = {}
    for component, registry in registries().items():
        for row in _rows(component, registry):
            if row.name in found:
                _merge(found[row.name], row)
            else:
                found[row.name] = row
    return list(found.values())


def metrics_table() -> str:
    """Build the table: metric, type, labels, meaning, component."""
    lines = [
        f"| `{row.name}` | {row.type} | {_labels(row.labels)} | {row.meaning} | {', '.join(row.components)} |"
        for row in rows()
    ]
    head = ["| metric | type | labels and their values | meaning | of |", "| --- | --- | --- | --- | --- |"]
    return "\n".join([*head, *lines])


def with_metrics_table(page: str) -> str:
    """Put the table of metrics in its place in `page`."""
    return re.sub(
        r"(<!-- metrics -->\n).*(<!-- /metrics -->)",
        lambda marks: f"{marks[1]}{metrics_table()}\n{marks[2]}",
        page,
        flags=re.DOTALL,
    )


def _rows(component: str, registry: CollectorRegistry) -> Iterator[Row]:
    for family in registry.collect():
        suffix = "_total" if family.type == "counter" else ""
        yield Row(
            f"{family.name}{suffix}",
            family.type,
            _values(family),
            family.documentation.removesuffix("."),
            [component],
        )


def _values(family: Metric) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for sample in family.samples:
        for label, value in sample.labels.items():
            if label == "le":
                continue
            known = values.setdefault(label, [])
            shown = VERSION if label == _VERSION_LABEL else value
            if shown not in known:
                known.append(shown)
    return values


def _merge(known: Row, other: Row) -> None:
    known.components.extend(other.components)
    for label, values in other.labels.items():
        known.labels[label].extend(value for value in values if value not in known.labels[label])


def _labels(labels: dict[str, list[str]]) -> str:
    return "; ".join(f"`{label}`: {', '.join(map(_value, values))}" for label, values in labels.items())


def _value(value: str) -> str:
    return value if value in (GROUP, DEPLOYMENT, VERSION) else f"`{value}`"


if __name__ == "__main__":
    PAGE.write_text(with_metrics_table(PAGE.read_text()))
