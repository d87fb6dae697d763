"""What the soak calls flat."""

from __future__ import annotations

import pytest

from bench.trend import trend

MESSAGES = list(range(0, 20_000, 50))


def test_a_leak_of_a_kilobyte_a_message_is_seen_through_noise() -> None:
    values = [150e6 + 1000 * done + (index % 7) * 200_000 for index, done in enumerate(MESSAGES)]
    found = trend(MESSAGES, values, counted=False)
    assert found.slope == pytest.approx(1e6, rel=0.2)
    assert not found.flat


def test_noise_and_one_step_are_no_leak() -> None:
    values = [
        150e6 + (index % 7) * 200_000 + (5e6 if done > 15_000 else 0) for index, done in enumerate(MESSAGES)
    ]
    assert trend(MESSAGES, values, counted=False).flat


def test_a_key_for_each_message_is_seen_and_a_handful_of_connections_is_not() -> None:
    assert not trend(MESSAGES, [float(done) for done in MESSAGES], counted=True).flat
    assert trend(MESSAGES, [float(20 + index % 3) for index, _ in enumerate(MESSAGES)], counted=True).flat


def test_what_shrinks_is_flat() -> None:
    assert trend(MESSAGES, [1e6 - done for done in MESSAGES], counted=False).flat
