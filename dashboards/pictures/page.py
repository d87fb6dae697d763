"""A whole dashboard, drawn with what a Prometheus answers."""

from __future__ import annotations

from datetime import UTC, datetime

from dashboards.pictures import drawing, theme
from dashboards.pictures.answers import Asker
from dashboards.pictures.canvas import Box, Canvas
from dashboards.pictures.graphs import graph
from dashboards.queries import Loaded

_TITLE = 30
"""Height of a panel's title, in pixels."""


def draw(dashboard: Loaded, asker: Asker) -> Canvas:
    """Draw a dashboard."""
    bottom = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"])
    canvas = Canvas(theme.WIDTH, theme.HEADER + bottom * theme.UNIT_HEIGHT + theme.MARGIN)
    _header(canvas, dashboard, asker)
    regions = {
        theme.colour(one["iconColor"]): asker.times_of(one, dashboard)
        for one in dashboard["annotations"]["list"]
        if one["enable"]
    }
    for panel in dashboard["panels"]:
        box = _box(panel)
        if panel["type"] == "row":
            canvas.text(box.x + 4, box.y + box.height / 2 + 2, f"⌄  {panel['title']}", 15, bold=True)
            continue
        canvas.rectangle(box, theme.PANEL, edge=theme.EDGE)
        canvas.text(box.x + 10, box.y + 16, panel["title"], 13, bold=True)
        answers, inner = asker.panel(panel, dashboard), box.inside(top=_TITLE)
        if panel["type"] == "stat":
            drawing.word(canvas, inner, panel, answers)
        elif not answers:
            middle = inner.x + inner.width / 2
            canvas.text(middle, inner.y + inner.height / 2, "No data", 14, theme.FAINT, anchor="center")
        elif panel["type"] == "timeseries":
            graph(canvas, inner, panel, answers, asker.times, regions)
        elif panel["type"] == "state-timeline":
            drawing.timeline(canvas, inner, panel, answers, asker.times)
        else:
            drawing.table(canvas, inner, panel, answers)
    return canvas


def _box(panel: Loaded) -> Box:
    grid, unit = panel["gridPos"], (theme.WIDTH - theme.MARGIN) / 24
    box = Box(
        theme.MARGIN + grid["x"] * unit,
        theme.HEADER + grid["y"] * theme.UNIT_HEIGHT,
        grid["w"] * unit,
        grid["h"] * theme.UNIT_HEIGHT,
    )
    return box.inside(right=theme.MARGIN, bottom=theme.MARGIN)


def _header(canvas: Canvas, dashboard: Loaded, asker: Asker) -> None:
    canvas.text(14, 22, dashboard["title"], 18, bold=True)
    start, end = (datetime.fromtimestamp(one, UTC) for one in (asker.times[0], asker.times[-1]))
    clock = f"{start:%Y-%m-%d %H:%M:%S} to {end:%H:%M:%S} UTC"
    canvas.text(theme.WIDTH - 14, 22, clock, 12, theme.FAINT, anchor="right")
    x = 14.0
    for variable in dashboard["templating"]["list"]:
        chosen = "All" if variable["type"] == "query" else "Prometheus"
        label = variable["label"]
        width = canvas.width_of(label, 12) + 16
        canvas.rectangle(Box(x, 42, width, 24), theme.EDGE)
        canvas.text(x + 8, 54, label, 12)
        inner = canvas.width_of(chosen, 12) + 36
        canvas.rectangle(Box(x + width, 42, inner, 24), theme.PAGE, edge=theme.EDGE)
        canvas.text(x + width + 8, 54, f"{chosen}  ⌄", 12)
        x += width + inner + 12
