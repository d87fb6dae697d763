"""The operator's metrics. Labels are bounded: never a tenant, a namespace, an Agent or free text."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable
from enum import StrEnum
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from konstruct_operator.workers import WorkerHealth
from shared.build_info import add_build_info

_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15)


class ReconcileOutcome(StrEnum):
    """How one look at an Agent ended."""

    UNCHANGED = "unchanged"
    """Nothing had to be written."""

    CHANGED = "changed"
    """Something was written."""

    SKIPPED = "skipped"
    """It is gone, or going, or another operator's."""

    RETRIED = "retried"
    """It failed and is tried again soon."""

    FAILED = "failed"
    """It failed and is tried again at the next change, or after minutes."""


class OperatorMetrics:
    """Every metric, in a registry of its own, its series there from the start."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series each, which nobody reads
        self.registry = CollectorRegistry()
        """What /metrics shows."""
        self.reconciles = Counter(
            "konstruct_operator_reconciles_total",
            "Looks at an Agent, those that failed among them, by how they ended.",
            ["outcome"],
            registry=self.registry,
        )
        self.duration = Histogram(
            "konstruct_operator_reconcile_duration_seconds",
            "Seconds that one look at an Agent took.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._agents = Gauge(
            "konstruct_operator_agents",
            "Agents, by whether they are ready.",
            ["ready"],
            registry=self.registry,
        )
        self._unsynced = Gauge(
            "konstruct_operator_unsynced_agents",
            "Agents whose active revision was not in effect on every worker yet.",
            registry=self.registry,
        )
        self._workers = Gauge(
            "konstruct_operator_workers",
            "Workers of the release, by state.",
            ["state"],
            registry=self.registry,
        )
        self._waiting = Gauge(
            "konstruct_operator_queue_depth", "Agents that wait to be looked at.", registry=self.registry
        )
        self._refused = Gauge(
            "konstruct_operator_refused_namespaces",
            "Namespaces that are not served because another operator serves them.",
            registry=self.registry,
        )
        self._missing = Gauge(
            "konstruct_operator_unreadable_namespaces",
            "Listed namespaces that are not served because a right is missing there.",
            registry=self.registry,
        )
        for outcome in ReconcileOutcome:
            self.reconciles.labels(outcome.value)
        for ready in ("true", "false"):
            self._agents.labels(ready)
        for state in WorkerHealth:
            self._workers.labels(state.value)
        add_build_info(self.registry, "operator", "konstruct-operator")

    def follow(
        self,
        *,
        agents: Callable[[], int],
        ready: Callable[[], int],
        unsynced: Callable[[], int],
        workers: Callable[[], Tally[WorkerHealth]],
        waiting: Callable[[], int],
        refused: Callable[[], int],
        missing: Callable[[], int],
    ) -> None:
        """Read what is known at every scrape."""
        self._agents.labels("true").set_function(ready)
        self._agents.labels("false").set_function(lambda: agents() - ready())
        self._unsynced.set_function(unsynced)
        self._waiting.set_function(waiting)
        self._refused.set_function(refused)
        self._missing.set_function(missing)
        for state in WorkerHealth:
            self._workers.labels(state.value).set_function(partial(_count, workers, state))


def _count(workers: Callable[[], Tally[WorkerHealth]], state: WorkerHealth) -> int:
    return workers()[state]
