"""How fast messages are finished, and when that is as fast again as before. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

WINDOW_S = 2.0
"""Length of a window in which finished messages are counted."""

SHARE = 0.8
"""Share of the rate before that a window must have."""

STEADY_S = 3.0
"""Seconds for which every window must have it: one good window may be a backlog that is worked off."""

STEP_S = 0.1
"""Seconds from one window's begin to the next one's."""


def count(finished: Sequence[float], begin: float, end: float) -> int:
    """Count what was finished between two moments; `finished` is sorted."""
    return bisect_right(finished, end) - bisect_left(finished, begin)


def back_after(finished: Sequence[float], rate: float, since: float, until: float) -> float | None:
    """Return the seconds from `since` until the rate is back, as far as can be told at `until`.

    It is back when all windows that begin within :data:`STEADY_S` hold :data:`SHARE` of `rate`; the first of
    them may begin at `since`: a fault that nobody notices has a rate that is back after 0 seconds.

    Args:
        finished: When messages were finished, sorted.
        rate: Messages a second before.
        since: The moment to count from.
        until: The last moment that everything is known of.
    """
    needed = SHARE * rate * WINDOW_S
    good_from: float | None = None
    steps = int((until - WINDOW_S - since) / STEP_S)
    for step in range(steps + 1):
        begin = since + step * STEP_S
        if count(finished, begin, begin + WINDOW_S) < needed:
            good_from = None
        elif good_from is None:
            good_from = begin
        if good_from is not None and begin - good_from >= STEADY_S - STEP_S / 2:
            return good_from - since
    return None
