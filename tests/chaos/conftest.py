"""The running system, once for all faults; how many rounds, and from which seed."""

from __future__ import annotations

import json
import os
import random
import secrets
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.chaos.faults import FAULTS
from tests.chaos.round import Outcome
from tests.chaos.stage import Stage, running_stage
from tests.chaos.table import RESULTS

COUNT = int(os.environ.get("CHAOS_COUNT") or 1)
"""Rounds of each fault."""

SEED = os.environ.get("CHAOS_SEED") or secrets.token_hex(4)
"""What the random moments come from."""


def pytest_report_header() -> str:
    """Say how to have the same moments again."""
    return f"chaos: {COUNT} round(s) of each fault, CHAOS_SEED={SEED}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test of every round of every fault."""
    if {"fault", "number"} <= set(metafunc.fixturenames):
        metafunc.parametrize(
            ("fault", "number"),
            [
                pytest.param(
                    fault, number, id=f"{fault.id}-{number}", marks=[pytest.mark.short] if fault.short else []
                )
                for fault in FAULTS
                for number in range(1, COUNT + 1)
            ],
        )


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Run the system."""
    with running_stage(tmp_path_factory.mktemp("chaos")) as made:
        yield made


@pytest.fixture
def chance(fault: object, number: int, request: pytest.FixtureRequest) -> random.Random:
    """Return this round's own chance: the same from the same seed, whichever other rounds are played."""
    return random.Random(f"{SEED}/{request.node.name}")


@pytest.fixture(scope="session")
def record() -> Callable[[Outcome], None]:
    """Return what keeps a round's outcome for the table, at once: a run may be cut short."""
    found: list[Outcome] = []

    def keep(outcome: Outcome) -> None:
        found.append(outcome)
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        document = {"seed": SEED, "count": COUNT, "outcomes": [asdict(one) for one in found]}
        RESULTS.write_text(json.dumps(document, indent=2) + "\n")

    return keep


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give a round its time, and the first one that of the system's start."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(600))
