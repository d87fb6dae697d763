"""What happens to the running system, phase by phase: providers fail and recover, an agent is edited."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tests.observability.stage import Stage
from tests.support.providers import Act, answer, cut, hang, status
from tests.support.waiting import eventually

LONGEST_S = 60.0
"""Longest that a phase may take beyond the requests that it needs."""


@dataclass(frozen=True)
class Phase:
    """A part of the script."""

    name: str
    """What it is called."""
    acts: Mapping[str, Act] = field(default_factory=dict)
    """What each provider does, by protocol; what is not named is healthy."""
    fires: frozenset[str] = frozenset()
    """Alerts that must be firing before it ends."""


@dataclass(frozen=True)
class Played:
    """A phase, as it went."""

    phase: Phase
    """Which."""
    start: float
    """When it began, in seconds since the epoch."""
    end: float
    """When it ended."""


SCRIPT = (
    Phase("healthy"),
    Phase("rate limits", {"anthropic": status(429, retry_after="1"), "openai": status(429, retry_after="1")}),
    Phase("one provider hangs", {"anthropic": hang()}),
    Phase("outage of quality", {"anthropic": status(503), "openai": cut()}),
    Phase(
        "slow",
        {"anthropic": answer(delay_s=0.9), "openai": answer(delay_s=0.9), "ollama": answer(delay_s=0.6)},
    ),
    Phase("all down", {"anthropic": cut(), "openai": status(500), "ollama": status(503)}),
    Phase("recovered"),
)
"""The phases, in order."""


def play(stage: Stage, requests: int, script: Sequence[Phase] = SCRIPT) -> Iterator[Played]:
    """Play the script, with the load on; each phase lasts until `requests` completions have ended in it."""
    for number, phase in enumerate(script):
        start = time.time()
        before = stage.load.completions()
        stage.providers.behave(phase.acts)
        if number == 0:
            stage.edit()

        def enough(phase: Phase = phase, before: int = before) -> bool:
            fired = phase.fires <= stage.prometheus.api.alerts() if phase.fires else True
            return fired and stage.load.completions() >= before + requests

        eventually(enough, within_s=LONGEST_S + requests / 3, what=f"the end of the phase {phase.name}")
        yield Played(phase, start, time.time())
