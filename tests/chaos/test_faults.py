"""Every fault, at a random moment under load: nothing lost, answered twice or mixed, and all goes on."""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.chaos.round import Fault, Outcome, check, play
from tests.chaos.stage import Stage


def test_fault(
    stage: Stage, fault: Fault, number: int, chance: random.Random, record: Callable[[Outcome], None]
) -> None:
    found = play(stage, fault, chance)
    record(found)
    check(fault, found)
