"""The scripted run: everything starts once, the script is played once, tests look at what is left."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.observability.load import Ended
from tests.observability.script import PROVIDERS, REST, Played, play
from tests.observability.stage import Stage, running_stage
from tests.support.prometheus import Api

REQUESTS = 50
"""Direct completions that each phase lasts for: about 5 seconds."""


@dataclass(frozen=True)
class Counted:
    """What was counted when all that was sent to failing and recovering providers had ended."""

    at: float
    """When a scrape had seen all of it, in seconds since the epoch."""
    ended: tuple[Ended, ...]
    """How each request ended for its sender."""
    attempts: dict[tuple[str, ...], float]
    """What the providers were asked, by deployment and outcome."""
    tokens: dict[tuple[str, ...], float]
    """Tokens of what they answered, by group and direction."""
    messages: dict[str, list[str | None]]
    """Reasons of the messages, by status."""


@dataclass(frozen=True)
class Run:
    """The running system after the script, and how the script went."""

    stage: Stage
    """The system; nothing is sent to it any more."""
    api: Api
    """Asks its Prometheus."""
    played: tuple[Played, ...]
    """The phases."""
    counted: Counted
    """Between the providers' part of the script and the rest."""

    @property
    def start(self) -> float:
        """When the script began."""
        return self.played[0].start

    @property
    def end(self) -> float:
        """When it ended."""
        return self.played[-1].end


@pytest.fixture(scope="session")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Run the system through the script, with a pause in which all is counted."""
    with running_stage(tmp_path_factory.mktemp("observed")) as stage:
        with stage.load:
            played = list(play(stage, REQUESTS, PROVIDERS))
            with stage.load.paused():
                counted = _count(stage)
            played += play(stage, REQUESTS, REST)
        yield Run(stage, stage.prometheus.api, tuple(played), counted)


def _count(stage: Stage) -> Counted:
    stage.prometheus.api.wait_scraped(time.time())
    return Counted(
        at=time.time(),
        ended=tuple(stage.load.ended()),
        attempts=stage.providers.attempts(),
        tokens=stage.providers.tokens(),
        messages=stage.load.messages(),
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the first test the time that the script takes."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(600))
