"""What happens to the running system, phase by phase: providers fail and recover; then other parts do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from tests.observability import faults
from tests.observability.alerts import FOR_GOOD, firing
from tests.observability.stage import Stage
from tests.support.providers import Act, answer, cut, hang, status
from tests.support.waiting import eventually

LONGEST_S = 60.0
"""Longest that a phase may take beyond the requests that it needs."""


def _nothing(_stage: Stage) -> AbstractContextManager[None]:
    return nullcontext()


@dataclass(frozen=True)
class Phase:
    """A part of the script. It ends when it had its requests and what it says of alerts is so."""

    name: str
    """What it is called."""
    acts: Mapping[str, Act] = field(default_factory=dict)
    """What each provider does, by protocol; what is not named is healthy."""
    fault: Callable[[Stage], AbstractContextManager[None]] = _nothing
    """What else is wrong, for as long as it lasts."""
    fires: frozenset[str] = frozenset()
    """Alerts that must fire in it."""
    calms: bool = False
    """Whether every alert must have ended by its end, but those that look back for days."""


@dataclass(frozen=True)
class Played:
    """A phase, as it went."""

    phase: Phase
    """Which."""
    start: float
    """When it began, in seconds since the epoch."""
    end: float
    """When it ended."""


_LIMITED = status(429, retry_after="1")
_SLOW = answer(delay_s=0.8)

PROVIDERS = (
    Phase("healthy", fault=faults.an_edit),
    Phase(
        "rate limits",
        {"anthropic": _LIMITED, "openai": _LIMITED},
        fires=frozenset({"KonstructLLMDegraded/fast", "KonstructDeploymentCooling"}),
    ),
    Phase("recovered from rate limits", calms=True),
    Phase("one provider hangs", {"anthropic": hang()}),
    Phase(
        "outage of quality",
        {"anthropic": status(503), "openai": cut()},
        fires=frozenset({"KonstructLLMDegraded/fast", "KonstructLLMDegraded/slow"}),
    ),
    Phase(
        "slow",
        {"anthropic": _SLOW, "openai": _SLOW, "ollama": _SLOW},
        fires=frozenset({"KonstructLLMSlow/fast"}),
    ),
    Phase(
        "all down",
        {"anthropic": cut(), "openai": status(500), "ollama": status(503)},
        fires=frozenset(
            {"KonstructNoProvider", "KonstructLLMFailing/fast", "KonstructMessagesUnserved/fast"}
        ),
    ),
    Phase("recovered", calms=True),
)
"""Providers fail and recover: what is counted can be told exactly."""

REST = (
    Phase(
        "a rush",
        {"anthropic": answer(delay_s=0.4), "ollama": answer(delay_s=0.4)},
        fault=faults.a_rush,
        fires=frozenset(
            {
                "KonstructQueueGrowing",
                "KonstructBacklogNearLimit",
                "KonstructMessagesDelayed/fast",
                "KonstructTokensUnusual",
                "KonstructCostUnusual",
            }
        ),
    ),
    Phase(
        "frozen workers",
        fault=faults.frozen_workers,
        fires=frozenset({"KonstructMetricsAbsent/worker", "KonstructAgentNotSynced"}),
    ),
    Phase(
        "an operator without rights",
        fault=faults.no_rights,
        fires=frozenset({"KonstructOperatorFailing", "KonstructNamespaceUnreadable"}),
    ),
    Phase(
        "its rights again; a stranger, a killer and a message that is stranded",
        fault=faults.a_stranger_and_a_killer,
        fires=frozenset(
            {
                "KonstructConfigLag/fast",
                "KonstructDeliveriesUnsigned",
                "KonstructMessagesParked",
                "KonstructMessagesStranded",
            }
        ),
    ),
    Phase(
        "no Kubernetes API",
        fault=faults.no_api,
        fires=frozenset(
            {"KonstructWatchDisconnected", "KonstructWorkerNotConsuming", "KonstructNoWorkerConsuming"}
        ),
    ),
    Phase("all well", calms=True),
)
"""Everything else that alerts are about fails and recovers."""


def play(stage: Stage, requests: int, script: Sequence[Phase] = PROVIDERS) -> Iterator[Played]:
    """Play a script, with the load on; each phase lasts until `requests` completions have ended in it."""
    for phase in script:
        start, before = time.time(), stage.load.completions()
        seen: set[str] = set()

        def over(phase: Phase = phase, before: int = before, seen: set[str] = seen) -> bool:
            now = firing(stage.prometheus.api)
            seen |= now
            calm = not phase.calms or all(name.endswith(FOR_GOOD) for name in now)
            return calm and phase.fires <= seen and stage.load.completions() >= before + requests

        stage.providers.behave(phase.acts)
        with phase.fault(stage):
            eventually(over, within_s=LONGEST_S + requests / 3, what=f"the end of the phase {phase.name}")
        yield Played(phase, start, time.time())
