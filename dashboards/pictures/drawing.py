"""Panels, drawn: each kind as Grafana shows it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dashboards.pictures import theme
from dashboards.pictures.answers import Answer
from dashboards.pictures.canvas import Box, Canvas
from dashboards.pictures.scales import LABEL, clock, legend
from dashboards.pictures.units import shown
from dashboards.queries import Loaded


def word(canvas: Canvas, box: Box, panel: Loaded, answers: Sequence[Answer]) -> None:
    """Draw a stat panel: each series a coloured field with its mapped text or its number."""
    defaults = panel["fieldConfig"]["defaults"]
    if not answers:
        _field(canvas, box, defaults["noValue"], "", theme.EDGE)
        return
    by_name = panel["options"].get("textMode") == "name"
    width = box.width / len(answers)
    for index, answer in enumerate(answers):
        text, colour = verdict(defaults, answer.values[-1])
        named = answer.name if len(answers) > 1 else ""
        field = Box(box.x + index * width, box.y, width, box.height)
        gap = 2 if index else 0
        _field(canvas, field.inside(left=gap), answer.name if by_name else text, named, colour)


def verdict(defaults: Mapping[str, Any], value: float) -> tuple[str, str]:
    """Return the text for a value, and the colour of its field."""
    for mapping in defaults.get("mappings", []):
        options = mapping["options"]
        found = options.get(f"{value:g}") if mapping["type"] == "value" else options["result"]
        if found and (mapping["type"] == "value" or math.isnan(value)):
            return found["text"], theme.colour(found["color"], solid=True)
    steps = defaults["thresholds"]["steps"]
    colour = [step["color"] for step in steps if step["value"] is None or value >= step["value"]][-1]
    return shown(value, defaults["unit"], defaults.get("decimals")), theme.colour(colour, solid=True)


def _field(canvas: Canvas, box: Box, text: str, name: str, colour: str) -> None:
    canvas.rectangle(box, colour)
    middle = box.x + box.width / 2
    size = canvas.fitting(text, 30, box.width - 20, bold=True)
    canvas.text(
        middle, box.y + box.height * (0.6 if name else 0.5), text, size, "white", anchor="center", bold=True
    )
    if name:
        small = canvas.fitting(name, 13, box.width - 12)
        canvas.text(middle, box.y + box.height * 0.24, name, small, "#ffffffd0", anchor="center")


def timeline(
    canvas: Canvas, box: Box, panel: Loaded, answers: Sequence[Answer], times: Sequence[float]
) -> None:
    """Draw a band for each series, in the colours of its states."""
    options = panel["fieldConfig"]["defaults"]["mappings"][0]["options"]
    states = {float(value): theme.colour(one["color"]) for value, one in options.items()}
    used = legend(canvas, box, [(one["text"], theme.colour(one["color"])) for one in options.values()])
    left = min(max((canvas.width_of(one.name, LABEL) for one in answers), default=0) + 12, box.width * 0.45)
    area = box.inside(left=left, top=6, right=10, bottom=used + 20)
    axes = canvas.axes(area)
    axes.set(xlim=(times[0], times[-1]), ylim=(max(len(answers), 1), 0), yticks=[])
    for row, answer in enumerate(answers):
        for value, start, end in _runs(times, answer.values):
            axes.barh(row + 0.5, end - start, left=start, height=0.7, color=states[value], linewidth=0)
        y = area.y + area.height * (row + 0.5) / len(answers)
        name = canvas.shortened(answer.name, LABEL, left - 10)
        canvas.text(box.x + left - 6, y, name, LABEL, theme.FAINT, anchor="right")
    clock(axes, times)


def table(canvas: Canvas, box: Box, panel: Loaded, answers: Sequence[Answer]) -> None:
    """Draw a table with a line for each series."""
    [shaped] = panel["transformations"]
    headings: dict[str, str] = shaped["options"]["renameByName"]
    width = box.width / len(headings)
    for column, (label, heading) in enumerate(headings.items()):
        x = box.x + 12 + column * width
        canvas.text(x, box.y + 16, heading, 12, theme.NAMED["blue"], bold=True)
        for row, answer in enumerate(answers):
            y = box.y + 42 + row * 26
            cell = f"{answer.values[-1]:g}" if label == "Value" else answer.labels.get(label, "")
            canvas.text(x, y, cell, 12)
            canvas.rectangle(Box(box.x + 8, y - 14, box.width - 16, 1), theme.EDGE)


def _runs(times: Sequence[float], values: Sequence[float]) -> Iterator[tuple[float, float, float]]:
    """List (value, from when, to when) of stretches of one value; where there is none is left out."""
    numbered = zip(times, values, (*times[1:], times[-1]), strict=True)
    for value, run in itertools.groupby(numbered, key=lambda one: one[1]):
        stretch = list(run)
        if not math.isnan(value):
            yield value, stretch[0][0], stretch[-1][2]
