"""Turns: the groups alternate, and none takes every place."""

from __future__ import annotations

import asyncio

import pytest

from shared.turns import Turns


def turns(most: int = 2) -> Turns[str]:
    return Turns(lambda key: key[0], most)


async def test_the_groups_alternate_however_many_one_has() -> None:
    line = turns(most=100)
    for number in range(50):
        line.add(f"a{number}")
    for key in ("b0", "b1", "c0", "b0"):
        line.add(key)
    assert (len(line), line.waiting("a"), line.waiting("b"), line.waiting("d")) == (53, 50, 2, 0)
    assert [await line.take() for _ in range(7)] == ["a0", "b0", "c0", "a1", "b1", "a2", "a3"]


async def test_a_group_has_no_more_than_its_places_and_those_of_others_stay_free() -> None:
    line = turns(most=2)
    for key in ("a0", "a1", "a2"):
        line.add(key)
    assert [await line.take() for _ in range(2)] == ["a0", "a1"]
    waiting = asyncio.create_task(line.take())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(waiting), 0.01)
    line.add("b0")
    assert await waiting == "b0"
    waiting = asyncio.create_task(line.take())
    await asyncio.sleep(0)
    line.done("a1")
    assert await waiting == "a2"
    assert "a2" not in line
