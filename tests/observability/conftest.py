"""The scripted run: everything starts once, the script is played once, tests look at what is left."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.observability.script import Played, play
from tests.observability.stage import Stage, running_stage

REQUESTS = 60
"""Direct completions that each phase lasts for: about 6 seconds."""


@dataclass(frozen=True)
class Run:
    """The running system after the script, idle, and how the script went."""

    stage: Stage
    """The system; all that was sent has ended, and a scrape has seen it."""
    played: tuple[Played, ...]
    """The phases."""


@pytest.fixture(scope="session")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Run the system through the script, and leave it idle."""
    with running_stage(tmp_path_factory.mktemp("observed")) as stage:
        with stage.load:
            played = tuple(play(stage, REQUESTS))
        stage.prometheus.api.wait_scraped(played[-1].end)
        yield Run(stage, played)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the first test the time that the script takes."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(600))
