"""Proofs: whoever has one is told of it once, and again when a look found that it was not enough."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from konstruct_operator.proofs import Proofs
from konstruct_operator.status import Active
from shared.kube.leases import WorkerState, lease_manifest
from shared.kube.objects import AgentRef, Object
from shared.kube.watch import Change

ACTIVE = Active("a" * 16, "acme", None, None)
ADA: AgentRef = ("acme", "ada")
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def lease(name: str, seen: int | None, second: int = 0) -> Object:
    made = lease_manifest(
        name=name,
        namespace="konstruct",
        pod_uid=None,
        release="konstruct",
        duration_s=30,
        renewed=BEGAN + timedelta(seconds=second),
        state=WorkerState(seen={} if seen is None else {"*": seen}),
    )
    made["metadata"]["uid"] = f"uid of {name}"
    return made


class World:
    """Collects who is told."""

    def __init__(self) -> None:
        self.told: list[AgentRef] = []
        self.proofs = Proofs(self.told.append, 0.0)
        self._second = 0

    async def renew(self, name: str, seen: int | None) -> None:
        self._second += 1
        await self.proofs.changed([Change("MODIFIED", lease(name, seen, self._second))], "1")

    def look(self, ref: AgentRef = ADA) -> bool:
        return self.proofs.verdict(ref, "u", ACTIVE).done


@pytest.fixture
async def world() -> World:
    made = World()
    await made.proofs.replaced([lease("w1", 1), lease("w2", 1)], "1")
    return made


async def test_ten_thousand_that_have_their_proof_are_told_once_each(world: World) -> None:
    for number in range(10_000):
        world.proofs.expect(("acme", f"agent-{number}"), "u", ACTIVE, 10 + number)
    for seen in range(0, 10_000, 100):
        await world.renew("w1", seen + 10)
        await world.renew("w2", seen + 10)
    await world.renew("w1", 20_000)
    assert len(world.told) == 9901, "as far as the slower worker is"
    await world.renew("w2", 20_000)
    await world.renew("w2", 20_000)
    assert len(world.told) == len(set(world.told)) == 10_000


async def test_a_worker_that_was_faster_than_the_answer_to_the_write(world: World) -> None:
    await world.renew("w1", 10)
    await world.renew("w2", 10)
    world.proofs.expect(ADA, "u", ACTIVE, 10)
    assert world.told == [ADA]


async def test_who_was_told_too_early_is_told_again(world: World) -> None:
    world.proofs.expect(ADA, "u", ACTIVE, 10)
    await world.renew("w1", 10)
    await world.renew("w2", 10)
    await world.renew("w3", None)  # comes between the proof and the look
    assert world.told == [ADA]
    assert not world.look()
    await world.renew("w3", 10)
    assert world.told == [ADA, ADA]
    assert world.look()


async def test_nobody_is_told_of_what_was_settled(world: World) -> None:
    world.proofs.expect(ADA, "u", ACTIVE, 10)
    world.proofs.settle(ADA)
    await world.renew("w1", 10)
    await world.renew("w2", 10)
    assert world.told == []
