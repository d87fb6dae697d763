"""Whether a figure grows with the messages that were answered. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

MOST_POINTS = 150
"""Samples that a slope is taken of; more are thinned out, as every pair is looked at."""

FLAT_SHARE = 0.0025
"""Share of its level that a figure may gain in 1,000 messages and still be called flat."""

FLAT_COUNT = 0.1
"""What a figure that is counted, not weighed, may gain in 1,000 messages besides."""


@dataclass(frozen=True)
class Trend:
    """How one figure went."""

    level: float
    """Its median."""
    slope: float
    """What 1,000 messages add, by the median of the slopes between all pairs (Theil and Sen)."""
    counted: bool
    """Whether it counts things rather than bytes."""

    @property
    def flat(self) -> bool:
        """Whether it does not grow."""
        return self.slope <= self.level * FLAT_SHARE + (FLAT_COUNT if self.counted else 0)


def trend(messages: Sequence[int], values: Sequence[float], *, counted: bool) -> Trend:
    """Find the trend of `values` over the number of `messages` answered by then."""
    step = max(len(messages) // MOST_POINTS, 1)
    points = list(zip(messages, values, strict=True))[::step]
    slopes = [
        (after - before) / (later - earlier)
        for (earlier, before), (later, after) in combinations(points, 2)
        if later > earlier
    ]
    return Trend(statistics.median(values), 1000 * statistics.median(slopes), counted)
