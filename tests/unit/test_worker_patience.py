"""When the llm-pool is asked again: backoff, the budget of retries, the circuit. The clock is a number."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from orchestrator.agents.patience import (
    FIRST_DELAY_S,
    LEAST_RESERVE,
    LONGEST_DELAY_S,
    RETRIES_PER_S,
    RETRY_SHARE,
    Budget,
    Circuit,
    Trouble,
    backoff_s,
)


class Clock:
    """A clock that a test sets, and that sleeping moves on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def spend(budget: Budget) -> int:
    """Take all that there is; return how many."""
    taken = 0
    while budget.take() == 0:
        taken += 1
    return taken


def test_backoff_doubles_up_to_a_limit_and_is_spread_over_all_of_it() -> None:
    longest = [backoff_s(attempt, lambda: 1.0) for attempt in range(8)]
    assert longest[:3] == [FIRST_DELAY_S, FIRST_DELAY_S * 2, FIRST_DELAY_S * 4]
    assert longest[-1] == backoff_s(10**6, lambda: 1.0) == LONGEST_DELAY_S
    assert backoff_s(5, lambda: 0.0) == 0


def test_a_budget_begins_full_so_that_what_is_cut_off_at_once_can_be_asked_again(clock: Clock) -> None:
    assert spend(Budget(32, clock)) == 32
    assert spend(Budget(1, clock)) == LEAST_RESERVE


def test_messages_add_their_share(clock: Clock) -> None:
    budget = Budget(32, clock)
    spend(budget)
    for _ in range(50):
        budget.earn()
    assert spend(budget) == pytest.approx(50 * RETRY_SHARE, abs=1)


def test_time_adds_a_little_and_it_is_told_when(clock: Clock) -> None:
    budget = Budget(32, clock)
    spend(budget)
    assert budget.take() == pytest.approx(1 / RETRIES_PER_S)
    clock.now += budget.take() + 1e-6
    assert budget.take() == 0
    assert budget.take() > 0
    clock.now += 5
    assert spend(budget) == pytest.approx(5 * RETRIES_PER_S, abs=1)


def test_a_budget_never_holds_more_than_its_reserve(clock: Clock) -> None:
    budget = Budget(32, clock)
    clock.now += 3600
    for _ in range(1000):
        budget.earn()
    assert spend(budget) == 32


def test_retries_stay_a_share_of_what_is_asked_however_long_it_fails(clock: Clock) -> None:
    budget, retries = Budget(32, clock), 0
    for _ in range(10_000):  # 100 a second, and every one of them fails
        clock.now += 0.01
        budget.earn()
        retries += budget.take() == 0
    assert retries <= 32 + 10_000 * RETRY_SHARE + 100 * RETRIES_PER_S


def test_only_what_got_through_costs_and_only_an_absent_pool_is_away() -> None:
    assert {trouble for trouble in Trouble if not trouble.costs} == {Trouble.UNREACHABLE}
    assert {trouble for trouble in Trouble if not trouble.away} == {Trouble.OVERLOADED}


def probing(answers: list[bool]) -> tuple[Callable[[], Awaitable[bool]], list[int]]:
    """Make a probe that gives these answers, and a list of how many were under way at each."""
    under_way, seen = 0, []

    async def probe() -> bool:
        nonlocal under_way
        under_way += 1
        seen.append(under_way)
        await asyncio.sleep(0)
        under_way -= 1
        return answers.pop(0)

    return probe, seen


async def test_while_the_pool_is_away_one_probe_at_a_time_asks_and_all_others_wait(clock: Clock) -> None:
    probe, seen = probing([False, False, False, True])
    told: list[float | None] = []
    circuit = Circuit(probe, told.append, sleep=clock.sleep, clock=clock)
    opened = [circuit.is_open]
    for _ in range(32):  # as many messages find it away
        circuit.open()
    opened.append(circuit.is_open)
    await asyncio.wait_for(asyncio.gather(*(circuit.wait() for _ in range(32))), 5)
    assert [*opened, circuit.is_open] == [False, True, False]
    assert seen == [1, 1, 1, 1]
    assert told == [None, clock.now - 1000]


async def test_a_circuit_opens_again(clock: Clock) -> None:
    probe, seen = probing([True, False, True])
    circuit = Circuit(probe, lambda _: None, sleep=clock.sleep, clock=clock)
    for _ in range(2):
        circuit.open()
        await asyncio.wait_for(circuit.wait(), 5)
    assert len(seen) == 3


async def test_a_circuit_that_is_stopped_probes_no_more(clock: Clock) -> None:
    probe, seen = probing([False] * 10_000)
    circuit = Circuit(probe, lambda _: None, sleep=clock.sleep, clock=clock)
    circuit.open()
    await asyncio.sleep(0.01)
    await circuit.stop()
    before = len(seen)
    await asyncio.sleep(0.01)
    assert len(seen) == before > 0
