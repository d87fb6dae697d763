"""Cooldowns: when they start, how long they hold, when they end. The clock is a number."""

from __future__ import annotations

import pytest

from llm_pool.cooldown import SILENCE_FACTOR, WINDOW_S, Cooldowns
from llm_pool.failures import AttemptError
from shared.contract import FallbackReason

NAME = "openai/gpt-4o"
"""A deployment."""


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cooldowns(clock: Clock) -> Cooldowns:
    return Cooldowns(default_s=30, allowed_fails=2, clock=clock)


def fail(reason: FallbackReason, retry_after: float | None = None) -> AttemptError:
    """A failed call."""
    return AttemptError(reason, retry_after=retry_after)


@pytest.mark.parametrize("reason", ["rate_limited", "auth", "model_not_found"])
def test_some_failures_cool_at_once_for_the_default(cooldowns: Cooldowns, clock: Clock, reason: str) -> None:
    assert cooldowns.note_failure(NAME, fail(FallbackReason(reason)))
    assert cooldowns.remaining(NAME) == 30
    clock.now += 29.9
    assert cooldowns.is_cooling(NAME)
    clock.now += 0.1
    assert not cooldowns.is_cooling(NAME)


@pytest.mark.parametrize("reason", ["timeout", "unavailable"])
def test_passing_failures_cool_after_those_allowed(cooldowns: Cooldowns, reason: str) -> None:
    noted = [cooldowns.note_failure(NAME, fail(FallbackReason(reason))) for _ in range(3)]
    assert noted == [False, False, True]


def test_failures_older_than_the_window_do_not_count(cooldowns: Cooldowns, clock: Clock) -> None:
    for _ in range(5):
        assert not cooldowns.note_failure(NAME, fail(FallbackReason.UNAVAILABLE))
        clock.now += WINDOW_S / 2 + 0.1


def test_a_success_makes_up_for_a_failure(cooldowns: Cooldowns) -> None:
    for _ in range(50):
        assert not cooldowns.note_failure(NAME, fail(FallbackReason.UNAVAILABLE))
        cooldowns.note_success(NAME, trial=False)
    noted = [cooldowns.note_failure(NAME, fail(FallbackReason.UNAVAILABLE)) for _ in range(3)]
    assert noted == [False, False, True]


@pytest.fixture
def due(cooldowns: Cooldowns, clock: Clock) -> Cooldowns:
    """The same at the end of a cooldown."""
    for _ in range(3):
        cooldowns.note_failure(NAME, fail(FallbackReason.UNAVAILABLE))
    assert not cooldowns.may_ask(NAME)
    clock.now += 30
    return cooldowns


def test_one_call_tries_a_deployment_after_its_cooldown(due: Cooldowns) -> None:
    assert due.may_ask(NAME)
    assert due.begin(NAME)
    assert not due.may_ask(NAME)
    assert due.may_ask("other")
    assert not due.begin("other")


def test_a_trial_that_succeeds_lets_everybody_ask_and_counting_starts_anew(due: Cooldowns) -> None:
    due.begin(NAME)
    due.note_success(NAME, trial=True)
    due.end_trial(NAME)
    assert due.may_ask(NAME)
    assert not due.begin(NAME)
    assert not due.note_failure(NAME, fail(FallbackReason.UNAVAILABLE))


@pytest.mark.parametrize("reason", ["timeout", "unavailable", "rate_limited"])
def test_a_trial_that_fails_cools_at_once(due: Cooldowns, reason: str) -> None:
    due.begin(NAME)
    assert due.note_failure(NAME, fail(FallbackReason(reason)), trial=True)
    due.end_trial(NAME)
    assert due.remaining(NAME) == 30


def test_a_refused_request_shows_that_a_deployment_is_there(due: Cooldowns) -> None:
    due.begin(NAME)
    assert not due.note_failure(NAME, fail(FallbackReason.BAD_REQUEST), trial=True)
    due.end_trial(NAME)
    assert not due.begin(NAME)


def test_a_trial_that_told_nothing_is_followed_by_another(due: Cooldowns) -> None:
    due.begin(NAME)
    due.end_trial(NAME)  # its caller went away
    assert due.may_ask(NAME)
    assert due.begin(NAME)


def test_what_was_asked_before_the_cooldown_decides_no_trial(due: Cooldowns) -> None:
    due.begin(NAME)
    assert not due.note_failure(NAME, fail(FallbackReason.UNAVAILABLE))
    due.note_success(NAME, trial=False)
    assert not due.may_ask(NAME)


@pytest.mark.parametrize("reason", ["context_window", "content_policy", "bad_request"])
def test_request_errors_never_cool(cooldowns: Cooldowns, reason: str) -> None:
    assert not any(cooldowns.note_failure(NAME, fail(FallbackReason(reason))) for _ in range(50))


@pytest.mark.parametrize("reason", ["rate_limited", "unavailable", "timeout", "bad_request"])
def test_retry_after_holds_whatever_the_reason(cooldowns: Cooldowns, reason: str) -> None:
    assert cooldowns.note_failure(NAME, fail(FallbackReason(reason), retry_after=7))
    assert cooldowns.remaining(NAME) == 7


def test_retry_after_is_never_shortened(cooldowns: Cooldowns, clock: Clock) -> None:
    cooldowns.note_failure(NAME, fail(FallbackReason.RATE_LIMITED, retry_after=90))
    # A call that was under way at the time comes back with less.
    cooldowns.note_failure(NAME, fail(FallbackReason.RATE_LIMITED, retry_after=1))
    clock.now += 60
    assert cooldowns.remaining(NAME) == 30


def test_own_cooldown_replaces_the_default_but_not_a_longer_retry_after(cooldowns: Cooldowns) -> None:
    cooldowns.note_failure(NAME, fail(FallbackReason.RATE_LIMITED), own_s=5)
    assert cooldowns.remaining(NAME) == 5
    cooldowns.note_failure(NAME, fail(FallbackReason.RATE_LIMITED, retry_after=50), own_s=5)
    assert cooldowns.remaining(NAME) == 50


def test_retry_after_zero_means_at_once(cooldowns: Cooldowns) -> None:
    assert not cooldowns.note_failure(NAME, fail(FallbackReason.RATE_LIMITED, retry_after=0))


def test_own_cooldown_of_zero_is_none(cooldowns: Cooldowns) -> None:
    assert not cooldowns.note_failure(NAME, fail(FallbackReason.RATE_LIMITED), own_s=0)


def test_deployments_cool_apart(cooldowns: Cooldowns) -> None:
    cooldowns.note_failure(NAME, fail(FallbackReason.AUTH))
    assert not cooldowns.is_cooling("other")


def test_one_that_hangs_cools_at_once_and_for_longer(cooldowns: Cooldowns, clock: Clock) -> None:
    clock.now += 20
    assert cooldowns.note_failure(NAME, fail(FallbackReason.TIMEOUT), silent_s=20)
    assert cooldowns.remaining(NAME) == SILENCE_FACTOR * 20


def test_one_that_answered_others_meanwhile_does_not_hang(cooldowns: Cooldowns, clock: Clock) -> None:
    clock.now += 10
    cooldowns.note_success(NAME, trial=False)
    clock.now += 10
    assert not cooldowns.note_failure(NAME, fail(FallbackReason.TIMEOUT), silent_s=20)


def test_without_cooldowns_nobody_is_left_alone_for_hanging(cooldowns: Cooldowns) -> None:
    assert not cooldowns.note_failure(NAME, fail(FallbackReason.TIMEOUT), silent_s=20, own_s=0)
