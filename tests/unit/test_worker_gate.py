"""When a worker may take messages."""

from __future__ import annotations

from orchestrator.gate import Gate

LEASE_S = 30


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def is_open(made: Gate) -> bool:
    return made.is_open


def gate() -> tuple[Gate, Clock]:
    clock = Clock()
    return Gate(LEASE_S, clock), clock


def opened() -> tuple[Gate, Clock]:
    made, clock = gate()
    assert made.renewed(clock.now)
    made.caught_up()
    assert is_open(made)
    return made, clock


def test_it_needs_a_renewal_and_a_list() -> None:
    made, clock = gate()
    assert not is_open(made)
    made.caught_up()
    assert not is_open(made)
    assert made.renewed(clock.now)
    assert not is_open(made), "a list from before the renewal does not count"
    made.caught_up()
    assert is_open(made)


def test_renewals_keep_it_open_without_a_list() -> None:
    made, clock = opened()
    for _ in range(10):
        clock.now += LEASE_S / 3
        assert not made.renewed(clock.now)
        assert is_open(made)


def test_time_counts_from_before_the_request_was_sent() -> None:
    made, clock = opened()
    sent = clock.now + 5
    clock.now += 12  # the answer took seven seconds
    assert not made.renewed(sent)
    clock.now = sent + LEASE_S - 0.1
    assert is_open(made)
    clock.now = sent + LEASE_S
    assert not is_open(made)


def test_after_a_lapse_a_renewal_alone_does_not_open_it() -> None:
    made, clock = opened()
    clock.now += LEASE_S
    assert not is_open(made)
    assert made.renewed(clock.now)
    assert not is_open(made)
    made.caught_up()
    assert is_open(made)


def test_an_answer_that_comes_after_the_lapse_is_a_lapse() -> None:
    made, clock = opened()
    sent = clock.now + LEASE_S - 1
    clock.now += LEASE_S + 1  # sent in time, known too late: for a moment nobody knew
    assert made.renewed(sent)
    assert not is_open(made)


def test_a_list_that_ends_in_a_lapse_opens_nothing() -> None:
    made, clock = gate()
    made.renewed(clock.now)
    clock.now += LEASE_S
    made.caught_up()
    assert not is_open(made)
    assert made.renewed(clock.now)
    assert not is_open(made)


def test_it_can_be_lapsed_and_shut() -> None:
    made, clock = opened()
    made.lapse()
    assert not is_open(made)
    assert made.renewed(clock.now)
    made.caught_up()
    assert is_open(made)
    made.shut()
    assert not is_open(made)
    made.renewed(clock.now)
    made.caught_up()
    assert not is_open(made)
