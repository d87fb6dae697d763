"""Agents made up, changed and deleted at random while an operator and a worker are at work."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import Phase, example, given, note, settings
from hypothesis import strategies as st

from shared.kube.names import agents_path
from shared.reply import MessageStatus
from tests.fuzz.agents_world import Act, World, batches, forgeries, places
from tests.operator.operator_stage import OperatorProcess, OperatorStage
from tests.operator.worker_stage import Stage, Worker, worker_beside
from tests.support.fuzzing import tries
from tests.support.kubernetes import MakeNamespace
from tests.support.waiting import eventually
from tests.support.worker import Cell

pytest_plugins = ["tests.operator.operator_fixtures"]

USUAL_S = 10.0
"""Longest that an edit of an Agent that nobody else touches may take, on a busy machine."""

GOOD = {"displayName": "Ada"}
MADE: list[Act] = [("apply", (space, "ada"), GOOD, "Strict") for space in (0, 1)]
ONE_NAME_TWICE: list[Act] = [*MADE, ("relabel", 0, "other")]
NO_TENANT: list[Act] = [*MADE, ("relabel", 0, "none"), ("relabel", 1, "odd")]
EMOJI: list[Act] = [("apply", (0, "ada"), {**GOOD, "systemPrompt": "\U0001f600"}, "Strict")]
"""Batches that chance may not make. ConfigMaps of the last could not be put right once."""


@dataclass
class Work:
    """An operator and a worker at work, and an Agent in a namespace where nothing odd happens."""

    world: World
    operator: OperatorProcess
    workers: Stage
    worker: Worker
    quiet: str
    """The namespace, and the tenant of the same name."""
    edits: int = 0

    def edit(self) -> float:
        """Edit the quiet Agent, and return the seconds until a worker answers from the edit."""
        stage = self.world.stage
        self.edits += 1
        prompt = f"Edit {self.edits}."
        before = str(stage.status("quiet", self.quiet).get("activeRevision", ""))
        began = time.monotonic()
        stage.apply("quiet", self.quiet, systemPrompt=prompt)
        revision = stage.revision("quiet", self.quiet, other_than=before)
        eventually(
            lambda: revision in self.workers.cell.revisions("quiet", self.quiet), what=f"{prompt} in effect"
        )
        took = time.monotonic() - began
        reply = self.workers.ask("quiet", self.quiet)
        assert (reply.status, reply.revision) == (MessageStatus.ANSWERED, revision)
        return took


@pytest.fixture
def work(operator_stage: OperatorStage, cell: Cell, make_namespace: MakeNamespace) -> Iterator[Work]:
    quiet = make_namespace()
    operator_stage.relabel(quiet, quiet)
    operator = operator_stage.start()
    workers = worker_beside(operator_stage, cell)
    with workers.end:
        worker = workers.worker(lease_s=60).ready()
        yield Work(World(operator_stage), operator, workers, worker, quiet)


@pytest.mark.timeout(0)
@pytest.mark.parametrize("operator_stage", [True], indirect=True, ids=["cluster"])
def test_whatever_is_done_to_agents_each_is_in_effect_or_says_why_not(work: Work) -> None:
    world = work.world

    @given(batch=batches, forged=st.tuples(places, forgeries))
    @example(ONE_NAME_TWICE, ((0, "ada"), "delete"))
    @example(NO_TENANT, ((1, "ada"), "label"))
    @example(EMOJI, ((0, "ada"), "disown"))
    @settings(tries(8), phases=(Phase.explicit, Phase.generate))  # to shrink would take minutes
    def play(batch: list[Act], forged: tuple[Any, ...]) -> None:
        note(repr((batch, forged)))
        asked = work.workers.cell.message("hello", tenant_id=work.quiet, agent="quiet")
        for number, act in enumerate(batch):
            world.do(act)
            if number == len(batch) // 2:
                work.workers.cell.submit(asked)
        assert work.workers.cell.reply(asked).status is MessageStatus.ANSWERED
        at_rest(world)
        world.do(("forge", *forged))
        at_rest(world)
        assert work.edit() < USUAL_S
        world.clear()
        at_rest(world)
        world.clean_up()
        assert [len(world.stage.api.list(agents_path(space))) for space in world.stage.spaces] == [0, 0]
        assert [world.stage.config_maps(space) for space in world.stage.spaces] == [{}, {}]

    work.edit()
    play()
    assert not work.operator.ended()
    assert work.operator.healthy()
    assert work.worker.process.exit_code() is None
    assert faults(work.operator.log()) == faults(work.worker.log()) == []
    # The examples were of every kind.
    assert min(world.taken, world.refused) > 10
    assert {"Accepted", "NoTenant", "InvalidTenant", "NameTaken", "Rendered"} <= world.seen


def at_rest(world: World) -> None:
    """Wait until nothing is wrong any more, and say what is if it stays so."""
    last: list[str] = []

    def look() -> bool:
        last[:] = world.wrong()
        return not last

    try:
        eventually(look, within_s=40)
    except AssertionError:
        raise AssertionError("\n".join(last)) from None


def faults(log: str) -> list[str]:
    """Give the lines of a log that tell of a program's own fault."""
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert lines
    bad = [line for line in lines if "exception" in line or line["level"] in ("error", "critical")]
    return [str(line) for line in bad] + (["a traceback"] if "Traceback" in log else [])
