"""The queue: no key twice at once, none forgotten, failures tried as their class says."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from konstruct_operator.queue import CONCURRENCY, MOST_OF_ONE, WorkQueue
from shared.kube.errors import ConflictError, InvalidError
from tests.support.waiting import until


class World:
    """Counts what a queue does."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.given_up: list[tuple[str, Exception]] = []
        self.running: dict[str, int] = {}
        self.most = 0
        self.retried = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.failures: dict[str, list[Exception]] = {}
        self.queue: WorkQueue[str] = WorkQueue(
            self.work, self.give_up, self.retry, lambda key: key.partition("/")[0]
        )

    async def work(self, key: str) -> None:
        self.running[key] = self.running.get(key, 0) + 1
        assert self.running[key] == 1, "twice at once"
        self.most = max(self.most, sum(self.running.values()))
        try:
            await self.gate.wait()
            await asyncio.sleep(0)
            if self.failures.get(key):
                raise self.failures[key].pop(0)
            self.done.append(key)
        finally:
            self.running[key] -= 1

    async def give_up(self, key: str, error: Exception) -> None:
        self.given_up.append((key, error))

    def retry(self) -> None:
        self.retried += 1


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    task = asyncio.create_task(made.queue.run())
    yield made
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_a_key_that_changes_while_it_is_worked_on_comes_again_once(world: World) -> None:
    world.gate.clear()
    world.queue.add("a")
    await until(lambda: world.running.get("a") == 1)
    for _ in range(5):
        world.queue.add("a")
    world.gate.set()
    await until(lambda: len(world.done) == 2)
    world.queue.add("b")
    await until(lambda: "b" in world.done)
    assert world.done == ["a", "a", "b"]


async def test_many_at_once_within_bounds(world: World) -> None:
    world.gate.clear()
    for number in range(100):
        world.queue.add(str(number))
        world.queue.add(str(number))
    await until(lambda: world.most == CONCURRENCY)
    assert world.queue.depth == 100 - CONCURRENCY
    assert world.queue.longest_s() > 0
    world.gate.set()
    await until(lambda: len(world.done) == 100)
    assert world.most == CONCURRENCY
    assert world.queue.longest_s() == 0


async def test_failures_are_tried_as_their_class_says(world: World) -> None:
    world.failures["a"] = [ConflictError("once"), ConflictError("twice")]
    world.queue.add("a")
    await until(lambda: world.done == ["a"])
    assert (world.retried, world.given_up) == (2, [])


async def test_what_is_hopeless_is_given_up_until_it_changes(world: World) -> None:
    refused, fault = InvalidError("no"), ValueError("a fault")
    world.failures |= {"a": [refused], "b": [fault]}
    world.queue.add("a")
    world.queue.add("b")
    await until(lambda: len(world.given_up) == 2)
    assert dict(world.given_up) == {"a": refused, "b": fault}
    world.queue.add("a")
    await until(lambda: world.done == ["a"])


async def test_limits_hold_and_start_anew_after_a_success(world: World) -> None:
    world.failures["a"] = [ConflictError(str(number)) for number in range(ConflictError.attempts)]
    world.queue.add("a")
    await until(lambda: len(world.given_up) == 1)
    assert world.retried == ConflictError.attempts - 1
    world.failures["a"] = [ConflictError("again")]
    world.queue.add("a")
    await until(lambda: world.done == ["a"])


async def test_a_change_does_not_wait_for_the_delay(world: World) -> None:
    world.queue.add_later("a", 1000)
    world.queue.add("a")
    await until(lambda: world.done == ["a"])
    world.queue.add_later("b", 0.01)
    await until(lambda: world.done == ["a", "b"])
    world.queue.add_later("c", 0.01)
    world.queue.forget("c")
    world.queue.add("d")
    await until(lambda: "d" in world.done)
    assert "c" not in world.done


async def test_one_edit_of_a_tenant_goes_before_the_thousands_of_another(world: World) -> None:
    world.gate.clear()
    for number in range(2000):
        world.queue.add(f"acme/{number}")
    await until(lambda: sum(world.running.values()) == MOST_OF_ONE)
    world.queue.add("globex/vera")
    # There is room for it although every one of the other's is stuck.
    await until(lambda: world.running.get("globex/vera") == 1)
    world.gate.set()
    await until(lambda: len(world.done) == 2001)
    assert world.done.index("globex/vera") <= CONCURRENCY


async def test_a_failure_that_cannot_be_told_ends_no_other_work(world: World) -> None:
    async def fails(key: str, error: Exception) -> None:
        raise RuntimeError(key)

    world.queue._give_up = fails
    world.failures["acme/ada"] = [ValueError("odd")] * 100
    for _ in range(2 * CONCURRENCY):
        world.queue.add("acme/ada")
        await until(lambda: not world.running.get("acme/ada"))
    world.queue.add("globex/vera")
    await until(lambda: "globex/vera" in world.done)
