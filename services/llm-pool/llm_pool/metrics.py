"""Prometheus metrics. One registry per application; every label value comes from the configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from llm_pool.exposition import Exposition
from llm_pool.shared_values import COOLING, AllProcesses, cooling_until
from shared.build_info import add_build_info
from shared.contract import FallbackReason, ProblemCode, Usage

UNKNOWN = "_unknown"
"""``requested_group`` of a request whose group is unknown or was never read; no group can be so called."""

NONE = "_none"
"""``served_group`` of a request that got no reply; no group can be so called."""

OK = "ok"
"""Outcome of a request that got a reply, and of a call that brought one."""

CANCELLED = "cancelled"
"""Outcome of a request whose client went away, and of the call that was under way then."""

INTERNAL = ProblemCode.INTERNAL.value
"""Outcome of a request that met a fault of the pool itself, and of the call in which it happened."""

_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120)
"""Upper bounds for whole requests and for calls, in seconds."""

_OVERHEAD_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)
"""Upper bounds for the pool's own part, in seconds."""

_COOLING_HELP = "1 while a deployment is left alone after failures."
"""What the metric of cooldowns means."""

_ATTEMPT_OUTCOMES = (
    OK,
    CANCELLED,
    INTERNAL,
    *(r.value for r in FallbackReason if r.value not in ("cooldown", "not_configured")),
)
"""Outcomes of calls; ``cooldown`` and ``not_configured`` mean that none was made."""

_FAILED = (
    ProblemCode.PROVIDERS_FAILED,
    ProblemCode.FALLBACK_REFUSED,
    ProblemCode.DEADLINE_EXCEEDED,
    ProblemCode.INTERNAL,
)
"""How a request for a known group may fail."""

_REFUSED = (
    ProblemCode.UNAUTHORIZED,
    ProblemCode.UNKNOWN_GROUP,
    ProblemCode.TOO_LARGE,
    ProblemCode.INVALID_REQUEST,
    ProblemCode.OVERLOADED,
)
"""How a request may be refused before a group is asked."""


class Metrics:
    """The pool's metrics."""

    def __init__(self, shared: Path | None = None) -> None:
        """`shared` is the folder of the values of all processes that answer for one another, if there are."""
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, which nobody reads
        self.registry = CollectorRegistry(auto_describe=True)
        """Where they live."""
        self._requests = Counter(
            "konstruct_llm_requests_total",
            "Requests, by outcome: ok, cancelled, or the code of the problem document.",
            ["requested_group", "served_group", "outcome"],
            registry=self.registry,
        )
        self._fallbacks = Counter(
            "konstruct_llm_fallbacks_total",
            "Times another group was asked, and why the first did not answer.",
            ["from_group", "to_group", "reason"],
            registry=self.registry,
        )
        self._duration = Histogram(
            "konstruct_llm_request_duration_seconds",
            "Seconds from a request's arrival to its answer.",
            ["requested_group", "served_group"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._overhead = Histogram(
            "konstruct_llm_overhead_seconds",
            "Seconds of a request that were not spent waiting for providers.",
            buckets=_OVERHEAD_BUCKETS,
            registry=self.registry,
        )
        self._attempts = Counter(
            "konstruct_llm_attempts_total",
            "Calls to deployments, each counted once, by outcome: ok, cancelled, or why they failed.",
            ["deployment", "outcome"],
            registry=self.registry,
        )
        self._attempt_duration = Histogram(
            "konstruct_llm_attempt_duration_seconds",
            "Seconds that calls to deployments took, those that failed among them, those cancelled not.",
            ["deployment"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._tokens = Counter(
            "konstruct_llm_tokens_total",
            "Tokens of replies, as providers counted them; direction is prompt or completion.",
            ["group", "direction"],
            registry=self.registry,
        )
        self._cost = Counter(
            "konstruct_llm_cost_usd_total",
            "US dollars spent on replies whose model has a known price.",
            ["group"],
            registry=self.registry,
        )
        self._deployments = Gauge(
            "konstruct_llm_group_deployments",
            "Usable deployments of a group: those with all that they need, whether or not they cool down.",
            ["group"],
            multiprocess_mode="livemax",
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "konstruct_llm_in_flight",
            "Completions under way.",
            multiprocess_mode="livesum",
            registry=self.registry,
        )
        """Completions under way."""
        self.in_flight_limit = Gauge(
            "konstruct_llm_in_flight_limit",
            "Completions that may be under way; one more is refused as overloaded.",
            multiprocess_mode="livesum",
            registry=self.registry,
        )
        """Completions that may be under way."""
        add_build_info(self.registry, "llm-pool", "konstruct-llm-pool")
        shown: Collector = self.registry
        self._cooling_until: Gauge | None = None
        if shared is not None:
            shown = AllProcesses(shared)
            self._cooling_until = Gauge(
                COOLING, _COOLING_HELP, ["deployment"], multiprocess_mode="livemax", registry=None
            )
        self._exposition = Exposition(shown)

    def prepare(
        self,
        groups: Mapping[str, int],
        deployments: Iterable[str],
        fallbacks: Iterable[tuple[str, str]],
        cooling: Callable[[], dict[str, bool]],
    ) -> None:
        """Make every series that can occur, at zero: a rate over a series that appears is wrong.

        Args:
            groups: Every group, and how many usable deployments it has.
            deployments: Names of the usable deployments.
            fallbacks: Every pair of groups of which the second may be asked when the first failed.
            cooling: Tells of each deployment whether it cools down.
        """
        fallbacks = set(fallbacks)
        serves = _reachable(tuple(groups), fallbacks)
        for group, usable in groups.items():
            self._deployments.labels(group).set(usable)
            for code in _FAILED:
                self._requests.labels(group, NONE, code.value)
            self._requests.labels(group, NONE, CANCELLED)
            for served in serves[group]:
                self._requests.labels(group, served, OK)
                self._duration.labels(group, served)
            self._duration.labels(group, NONE)
            for direction in ("prompt", "completion"):
                self._tokens.labels(group, direction)
            self._cost.labels(group)
        for code in _REFUSED:
            self._requests.labels(UNKNOWN, NONE, code.value)
        for source, target in fallbacks:
            for reason in FallbackReason:
                self._fallbacks.labels(source, target, reason.value)
        for deployment in deployments:
            for outcome in _ATTEMPT_OUTCOMES:
                self._attempts.labels(deployment, outcome)
            self._attempt_duration.labels(deployment)
            if self._cooling_until is not None:
                self._cooling_until.labels(deployment)
        self.registry.register(_Cooling(cooling))

    def attempt(self, deployment: str, outcome: str, seconds: float) -> None:
        """Count one call."""
        self._attempts.labels(deployment, outcome).inc()
        if outcome != CANCELLED:
            self._attempt_duration.labels(deployment).observe(seconds)

    def cools(self, deployment: str, seconds: float) -> None:
        """Note that a deployment is left alone for `seconds` from now; for other processes to tell."""
        if self._cooling_until is not None:
            self._cooling_until.labels(deployment).set(cooling_until(seconds))

    def fallback(self, source: str, target: str, reason: FallbackReason) -> None:
        """Count one turn to another group."""
        self._fallbacks.labels(source, target, reason.value).inc()

    def reply(self, group: str, usage: Usage, cost_usd: float | None) -> None:
        """Count what a reply consumed."""
        self._tokens.labels(group, "prompt").inc(usage.prompt_tokens)
        self._tokens.labels(group, "completion").inc(usage.completion_tokens)
        if cost_usd is not None:
            self._cost.labels(group).inc(cost_usd)

    def finished(self, requested: str, served: str, outcome: str, seconds: float, provider_s: float) -> None:
        """Count a request for a known group that has ended."""
        self._requests.labels(requested, served, outcome).inc()
        self._duration.labels(requested, served).observe(seconds)
        self._overhead.observe(max(seconds - provider_s, 0.0))

    def refused(self, code: ProblemCode) -> None:
        """Count a request that was refused before a group was asked."""
        self._requests.labels(UNKNOWN, NONE, code.value).inc()

    def render(self) -> bytes:
        """Return the text format."""
        return self._exposition.render()


class _Cooling(Collector):
    """``konstruct_llm_deployment_cooling``, read from the cooldowns when it is scraped."""

    def __init__(self, cooling: Callable[[], dict[str, bool]]) -> None:
        self._cooling = cooling

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield one sample for each deployment."""
        family = GaugeMetricFamily(COOLING, _COOLING_HELP, labels=["deployment"])
        for name, value in self._cooling().items():
            family.add_metric([name], float(value))
        yield family


def _reachable(groups: tuple[str, ...], fallbacks: set[tuple[str, str]]) -> dict[str, set[str]]:
    """For each group, itself and every group that may answer for it."""
    found: dict[str, set[str]] = {}
    for group in groups:
        found[group] = {group}
        while more := {target for source, target in fallbacks if source in found[group]} - found[group]:
            found[group] |= more
    return found
