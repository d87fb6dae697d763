"""What surrounds a graph: its times, its ticks and the names of its lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime

from matplotlib.axes import Axes

from dashboards.pictures import theme
from dashboards.pictures.canvas import Box, Canvas

LABEL = 11
"""Size of the text of legends and tables, in pixels."""

_CLOCK_STEPS = (15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
"""Seconds that may lie between two times of an axis."""


def legend(canvas: Canvas, box: Box, entries: Sequence[tuple[str, str]]) -> float:
    """Write the names of the lines at the bottom, in as many rows as they need; return the height used."""
    x, row, gap = 12.0, 0, 30
    places: list[tuple[float, int, str, str]] = []
    for name, colour in entries:
        text = canvas.shortened(name, LABEL, box.width - 50)
        width = canvas.width_of(text, LABEL)
        if places and x + width + gap > box.width:
            x, row = 12.0, row + 1
        places.append((x, row, text, colour))
        x += width + gap
    rows = row + 1
    for left, line, text, colour in places:
        y = box.y + box.height - 12 - (rows - 1 - line) * 17
        canvas.rectangle(Box(box.x + left, y - 1.5, 12, 3), colour)
        canvas.text(box.x + left + 17, y, text, LABEL, theme.FAINT)
    return rows * 17 + 6


def ticks(top: float, *, whole: bool = False, base: float = 1) -> list[float]:
    """Choose round values up to `top`, as multiples of `base`; whole numbers for what is counted."""
    rough = top / base / 4
    magnitude = 10 ** math.floor(math.log10(rough))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= rough)
    if whole:
        step = max(math.ceil(step), 1)
    return [index * step * base for index in range(int(top / base / step) + 1)]


def clock(axes: Axes, times: Sequence[float]) -> None:
    """Write the times below a graph."""
    whole = times[-1] - times[0]
    step = next((one for one in _CLOCK_STEPS if whole / one <= 7), _CLOCK_STEPS[-1])
    ticks = [index * step for index in range(math.ceil(times[0] / step), math.floor(times[-1] / step) + 1)]
    form = "%H:%M" if step >= 60 else "%H:%M:%S"
    axes.set_xticks(ticks, [datetime.fromtimestamp(tick, UTC).strftime(form) for tick in ticks])
