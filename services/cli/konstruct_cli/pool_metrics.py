"""What the llm-pool counts: read from its /metrics, and what was added between two readings. Pure.

Ratios are those of the recording rules: requests cancelled by their client, and those refused before a group
was asked, are in none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pydantic import BaseModel

Counts = Mapping[tuple[str, ...], float]
"""Values of counters, by the metric's name and its labels' values."""

REQUESTS = "konstruct_llm_requests_total"
"""Requests, by requested group, served group and outcome."""

FALLBACKS = "konstruct_llm_fallbacks_total"
"""Turns to another group, by the group left and the reason."""

_LABELS = {
    REQUESTS: ("requested_group", "served_group", "outcome"),
    FALLBACKS: ("from_group", "reason"),
}

_NOT_ASKED = "_unknown"
"""Requested group of what was refused before a group was asked."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The metrics of one process of the pool, at one time."""

    started: float | None
    """When the process started, in seconds since 1970; it names the process."""

    counts: Counts
    """Its counters."""

    cooling: tuple[str, ...]
    """Deployments that it leaves alone after failures."""


class GroupTraffic(BaseModel):
    """What was asked of one model group."""

    requested_group: str
    """The group."""

    requests: int
    """Requests that ended, but for those that their client cancelled."""

    degraded: int
    """Those of them that another group answered."""

    failed: int
    """Those of them that none answered."""

    requests_per_s: float | None = None
    """Requests in a second; null over all time."""

    fallback_ratio: float | None
    """Share of the answers that another group gave; null without answers."""

    failed_ratio: float | None
    """Share of the requests that none answered; null without requests."""

    reasons: dict[str, int]
    """Turns from this group to another, by reason."""


class Traffic(BaseModel):
    """What was asked of the pool."""

    requests: int = 0
    """Requests for any group, but for those that their client cancelled."""

    degraded: int = 0
    """Those of them that another group answered than the one asked for."""

    failed: int = 0
    """Those of them that none answered."""

    fallback_ratio: float | None = None
    """Share of the answers that another group gave than the one asked for; null without answers."""

    refused: dict[str, int] = {}
    """Requests that were refused before a group was asked, by problem."""

    groups: list[GroupTraffic] = []
    """Model groups, by name."""

    @property
    def answers(self) -> int:
        """Requests that a model answered."""
        return self.requests - self.failed


def read_metrics(text: str) -> Reading:
    """Read Prometheus' text format.

    Raises:
        ValueError: it is something else.
    """
    from prometheus_client.parser import text_string_to_metric_families  # noqa: PLC0415 - only here

    started = None
    counts: defaultdict[tuple[str, ...], float] = defaultdict(float)
    cooling = []
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in _LABELS:
                counts[sample.name, *(sample.labels[label] for label in _LABELS[sample.name])] += sample.value
            elif sample.name == "konstruct_llm_deployment_cooling" and sample.value:
                cooling.append(sample.labels["deployment"])
            elif sample.name == "konstruct_start_time_seconds":
                started = sample.value
    return Reading(started, counts, tuple(sorted(cooling)))


def total(several: Iterable[Counts]) -> Counts:
    """Add up the counters of several processes."""
    sums: defaultdict[tuple[str, ...], float] = defaultdict(float)
    for counts in several:
        for key, value in counts.items():
            sums[key] += value
    return sums


def increase(before: Counts, now: Counts) -> Counts:
    """Say what was counted between two readings of a process.

    A counter that fell began again at zero, and its process with it: all that it shows now was counted since.
    """
    if any(now.get(key, 0.0) < value for key, value in before.items()):
        return now
    return {key: value - before.get(key, 0.0) for key, value in now.items()}


def traffic(counts: Counts, rates: Counts | None = None) -> Traffic:
    """Sum up counters, of any number of processes; `rates` are the same counters in a second."""
    names = sorted({key[1] for key in counts if key[0] == REQUESTS} - {_NOT_ASKED})
    groups = [_group(name, counts, rates) for name in names]
    requests, degraded, failed = (
        sum(getattr(group, what) for group in groups) for what in ("requests", "degraded", "failed")
    )
    refused = {
        key[3]: int(value)
        for key, value in sorted(counts.items())
        if key[0] == REQUESTS and key[1] == _NOT_ASKED and value
    }
    return Traffic(
        requests=requests,
        degraded=degraded,
        failed=failed,
        fallback_ratio=_share(degraded, requests - failed),
        refused=refused,
        groups=groups,
    )


def _group(name: str, counts: Counts, rates: Counts | None) -> GroupTraffic:
    ended = {key: value for key, value in counts.items() if _ended(key, name)}
    requests = sum(ended.values())
    answered = {key[2]: value for key, value in ended.items() if key[3] == "ok"}
    degraded = sum(value for served, value in answered.items() if served != name)
    failed = requests - sum(answered.values())
    return GroupTraffic(
        requested_group=name,
        requests=int(requests),
        degraded=int(degraded),
        failed=int(failed),
        requests_per_s=(
            None if rates is None else sum(value for key, value in rates.items() if _ended(key, name))
        ),
        fallback_ratio=_share(degraded, requests - failed),
        failed_ratio=_share(failed, requests),
        reasons={
            key[2]: int(value)
            for key, value in sorted(counts.items())
            if key[:2] == (FALLBACKS, name) and value
        },
    )


def _ended(key: tuple[str, ...], group: str) -> bool:
    return key[:2] == (REQUESTS, group) and key[3] != "cancelled"


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None
