"""Series in which a budget is spent at a given pace, and promtool's tests of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

REQUESTS = "konstruct_llm_requests_total"
"""Requests to the pool."""

QUALITY = 'requested_group="quality",served_group="quality"'
"""Labels of what was asked of a group and answered by it."""

TOTAL = 100.0
"""Requests in a step."""

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class Objective:
    """What an objective is about, in series."""

    alert: str
    """Its alerts."""
    ratio: str
    """Its record, without window."""
    value: str
    """Its path in ``monitoring.rules.objectives``."""
    good: tuple[str, ...]
    """Series that count what is good."""
    bad: tuple[str, ...]
    """Series that count what is bad."""
    both: tuple[str, ...] = ()
    """Series that count both."""
    least: str = "minRequests"
    """The value that is its floor."""


OBJECTIVES = (
    Objective(
        "KonstructLLMFailing",
        "llm_failed",
        "answered",
        good=(f'{REQUESTS}{{{QUALITY},outcome="ok"}}',),
        bad=(f'{REQUESTS}{{requested_group="quality",served_group="_none",outcome="providers_failed"}}',),
    ),
    Objective(
        "KonstructLLMDegraded",
        "llm_degraded",
        "askedModel",
        good=(f'{REQUESTS}{{{QUALITY},outcome="ok"}}',),
        bad=(f'{REQUESTS}{{requested_group="quality",served_group="fast",outcome="ok"}}',),
    ),
    Objective(
        "KonstructLLMSlow",
        "llm_slow",
        "latency.share",
        good=(f'konstruct_llm_request_duration_seconds_bucket{{{QUALITY},le="20.0"}}',),
        bad=(),
        both=(
            f'{REQUESTS}{{{QUALITY},outcome="ok"}}',
            f"konstruct_llm_request_duration_seconds_count{{{QUALITY}}}",
        ),
    ),
    Objective(
        "KonstructMessagesUnserved",
        "messages_unserved",
        "messagesServed",
        good=('konstruct_messages_total{outcome="answered"}',),
        bad=('konstruct_apologies_total{reason="pool_unreachable"}',),
    ),
    Objective(
        "KonstructMessagesDelayed",
        "messages_delayed",
        "queueDelay.share",
        good=('konstruct_message_queue_seconds_bucket{le="5.0"}',),
        bad=(),
        both=("konstruct_message_queue_seconds_count",),
    ),
    Objective(
        "KonstructConfigLag",
        "agent_edits_late",
        "configLag.share",
        good=('konstruct_agent_config_lag_seconds_bucket{le="2.0"}',),
        bad=(),
        both=("konstruct_agent_config_lag_seconds_count",),
        least="minEdits",
    ),
)
"""Every objective of the chart."""


@dataclass(frozen=True)
class Phase:
    """A stretch of time in which the budget is spent evenly."""

    steps: int
    """How long."""
    bad: float
    """Share that is bad."""
    total: float = TOTAL
    """How much there is in a step."""


@dataclass(frozen=True)
class Pace:
    """One alert's windows, in steps: six of them are its short window (five for the fast one)."""

    step_s: int
    """Seconds in a step."""
    short: int
    """The short window."""
    long: int
    """The long window."""
    wait: int
    """How long the alert waits."""
    threshold: float
    """Share of bad at which the alert begins."""

    @classmethod
    def of(cls, burn: Mapping[str, Any], objective: float) -> Pace:
        """Read the values of a burn rate."""
        short, long, wait = (_seconds(burn[name]) for name in ("short", "long", "for"))
        step = short // 5 if short % 6 else short // 6
        return cls(step, short // step, long // step, -(-wait // step), burn["factor"] * (1 - objective))

    @property
    def step(self) -> str:
        """One step, as promtool takes it."""
        return self.after(1)

    def after(self, steps: int) -> str:
        """Return the moment after so many steps, as promtool takes it."""
        return f"{steps * self.step_s}s"


def series(objective: Objective, phases: Iterable[Phase]) -> list[dict[str, str]]:
    """Make the series of an objective, each of namespace ``here`` and release ``ours``."""
    good, bad = [0.0], [0.0]
    for phase in phases:
        for _ in range(phase.steps):
            good.append(good[-1] + phase.total * (1 - phase.bad))
            bad.append(bad[-1] + phase.total * phase.bad)
    both = [one + other for one, other in zip(good, bad, strict=True)]
    return [
        {"series": _owned(name), "values": " ".join(f"{value:.6f}" for value in values)}
        for names, values in ((objective.good, good), (objective.bad, bad), (objective.both, both))
        for name in names
    ]


def expects(expression: str, moment: str, *, found: bool) -> dict[str, Any]:
    """Expect that `expression` finds one series, or none, at a moment."""
    samples = [{"labels": "{}", "value": 1}] if found else []
    return {"expr": f"count({expression})", "eval_time": moment, "exp_samples": samples}


def _owned(name: str) -> str:
    metric, _, labels = name.partition("{")
    return ",".join(filter(None, [f'{metric}{{namespace="here",release="ours"', labels.rstrip("}")])) + "}"


def _seconds(duration: str) -> int:
    return int(duration[:-1]) * _UNITS[duration[-1]]
