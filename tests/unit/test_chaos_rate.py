"""When the fault suite says that the rate is back."""

from __future__ import annotations

import pytest

from tests.chaos.rate import STEADY_S, WINDOW_S, back_after

RATE = 20.0


def steady(begin: float, end: float, rate: float = RATE) -> list[float]:
    return [begin + number / rate for number in range(int((end - begin) * rate))]


def test_a_rate_that_never_fell_is_back_at_once() -> None:
    assert back_after(steady(0, 20), RATE, 5, 20) == 0


def test_a_gap_counts_to_the_first_window_of_the_lasting_rate() -> None:
    finished = [*steady(0, 5), *steady(9, 20)]
    back = back_after(finished, RATE, 5, 20)
    assert back == pytest.approx(3.6, abs=0.15)  # that window is filled to four fifths


def test_a_burst_before_another_gap_is_not_the_rate_again() -> None:
    finished = [*steady(0, 5), *steady(6, 8, 60), *steady(12, 20)]
    back = back_after(finished, RATE, 5, 20)
    assert back is not None
    assert back > 6


def test_four_fifths_are_enough_and_less_is_not() -> None:
    assert back_after(steady(0, 20, RATE * 0.85), RATE, 5, 20) == 0
    assert back_after(steady(0, 20, RATE * 0.7), RATE, 5, 20) is None


def test_what_is_not_known_yet_is_not_told() -> None:
    finished = steady(0, 20)
    assert back_after(finished, RATE, 5, 5 + WINDOW_S + STEADY_S - 0.5) is None
    assert back_after(finished, RATE, 5, 5 + WINDOW_S + STEADY_S + 0.1) == 0
