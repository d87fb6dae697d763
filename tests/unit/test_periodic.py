"""What is done again and again goes on after a failure, and ends when it is told to."""

from __future__ import annotations

import pytest

from orchestrator.periodic import Periodic
from tests.support.waiting import eventually


def test_a_failure_is_told_and_not_the_end(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[int] = []

    def act() -> None:
        calls.append(len(calls))
        if len(calls) == 1:
            raise BrokenPipeError("first")

    periodic = Periodic("looking", 0.01, act)
    periodic.start()
    eventually(lambda: len(calls) > 2, what="further calls")
    periodic.stop()
    done = len(calls)
    assert "looking failed" in caplog.text
    assert "BrokenPipeError: first" in caplog.text
    assert len(calls) == done
