"""Graphs over time, drawn as Grafana shows them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from dashboards.pictures import theme
from dashboards.pictures.answers import Answer
from dashboards.pictures.canvas import Box, Canvas
from dashboards.pictures.scales import clock, legend, ticks
from dashboards.pictures.units import shown
from dashboards.queries import Loaded


@dataclass
class _Style:
    """How a line is drawn."""

    colour: str
    fill: bool = True
    dashed: bool = False


def graph(
    canvas: Canvas,
    box: Box,
    panel: Loaded,
    answers: Sequence[Answer],
    times: Sequence[float],
    regions: Mapping[str, Sequence[tuple[float, float]]],
) -> None:
    """Draw a graph over time, and below it the names of its lines."""
    defaults = panel["fieldConfig"]["defaults"]
    styles = _styles(panel, answers)
    used = legend(canvas, box, [(one.name, style.colour) for one, style in zip(answers, styles, strict=True)])
    axes = canvas.axes(box.inside(left=54, top=4, right=10, bottom=used + 20))
    for colour, spans in regions.items():
        for start, end in spans:
            axes.axvspan(start, end, color=colour, alpha=0.09, linewidth=0)
    shape = _stack if _stacked(panel) else _lines
    highest = shape(axes, times, answers, styles)
    for step in defaults["thresholds"]["steps"] if "thresholds" in defaults else []:
        if step["value"] is not None:
            axes.axhline(step["value"], color=theme.colour(step["color"]), linestyle="--", linewidth=0.8)
    top = defaults.get("max") or highest * 1.08 or 1
    axes.set(xlim=(times[0], times[-1]), ylim=(0, top))
    minutes = defaults["unit"] == "s" and top >= 60
    marks = ticks(top, whole=defaults["unit"] == "none", base=60 if minutes else 1)
    axes.set_yticks(marks, [shown(mark, defaults["unit"]) for mark in marks])
    clock(axes, times)


def _styles(panel: Loaded, answers: Sequence[Answer]) -> list[_Style]:
    found = [_Style(theme.PALETTE[index % len(theme.PALETTE)]) for index in range(len(answers))]
    for override in panel["fieldConfig"]["overrides"]:
        matcher = override["matcher"]
        by_name = matcher["id"] == "byName"
        pattern = f"^{re.escape(matcher['options'])}$" if by_name else matcher["options"].strip("/")
        properties = {one["id"]: one["value"] for one in override["properties"]}
        for style, answer in zip(found, answers, strict=True):
            if re.search(pattern, answer.name):
                style.colour = theme.colour(properties["color"]["fixedColor"])
                style.fill = properties.get("custom.fillOpacity") != 0
                style.dashed = "custom.lineStyle" in properties
    return found


def _stacked(panel: Loaded) -> bool:
    stacking: Mapping[str, str] = panel["fieldConfig"]["defaults"]["custom"].get("stacking", {})
    return stacking.get("mode") == "normal"


def _stack(axes: Axes, times: Sequence[float], answers: Sequence[Answer], styles: Sequence[_Style]) -> float:
    below = [0.0] * len(times)
    for answer, style in zip(answers, styles, strict=True):
        above = [low + (0 if math.isnan(one) else one) for low, one in zip(below, answer.values, strict=True)]
        there = [low < high for low, high in zip(below, above, strict=True)]
        # With the points before and after, so that a slope begins where it does.
        drawn = [any(there[max(index - 1, 0) : index + 2]) for index in range(len(there))]
        axes.fill_between(times, below, above, where=drawn, color=style.colour, alpha=0.6, linewidth=0)
        edge = [high if shown_there else math.nan for high, shown_there in zip(above, drawn, strict=True)]
        axes.plot(times, edge, color=style.colour, linewidth=0.8)
        below = above
    return max(below, default=0)


def _lines(axes: Axes, times: Sequence[float], answers: Sequence[Answer], styles: Sequence[_Style]) -> float:
    for answer, style in zip(answers, styles, strict=True):
        line = "--" if style.dashed else "-"
        axes.plot(times, answer.values, color=style.colour, linewidth=1.1, linestyle=line)
        if style.fill:
            axes.fill_between(times, 0, answer.values, color=style.colour, alpha=0.08, linewidth=0)
    return max((one for answer in answers for one in answer.values if math.isfinite(one)), default=0)
