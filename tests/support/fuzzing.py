"""How long tests look for what breaks, and what they do again: docs/testing.md tells how to use it."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

FACTOR = int(os.environ.get("FUZZ_FACTOR", "1"))
"""How many times the examples of ``make test`` are tried: ``make fuzz`` sets it."""


def tries(examples: int, *, steps: int = 50) -> settings:
    """Say how many examples `make test` tries, and how many steps the longest of a state machine has.

    Without a factor the examples are the same every time, so that what fails for one fails for all;
    with one they come from the seed that pytest is given.
    """
    return settings(
        max_examples=examples * FACTOR,
        stateful_step_count=steps,
        deadline=None,
        derandomize=FACTOR == 1,
        print_blob=True,
        report_multiple_bugs=False,
        # Servers are slower than functions, and are made once for all examples.
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
            HealthCheck.function_scoped_fixture,
        ],
    )
