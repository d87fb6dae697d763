"""Colours and sizes of Grafana's dark theme."""

from __future__ import annotations

PAGE = "#111217"
"""Behind the panels."""

PANEL = "#181b1f"
"""Of a panel."""

EDGE = "#2a2d33"
"""Around a panel."""

TEXT = "#d0d0e0"
"""Of titles and values."""

FAINT = "#8f90a0"
"""Of axes and legends."""

GRID = "#24272d"
"""Of grid lines."""

NAMED = {
    "green": "#56a64b",
    "orange": "#ff9830",
    "red": "#f2495c",
    "blue": "#5794f2",
    "transparent": "#00000000",
}
"""Grafana's names of colours."""

SOLID = {"green": "#37872d", "orange": "#c4691c", "red": "#c4162a", "blue": "#1f60c4"}
"""The same as a background of white text."""

PALETTE = (
    "#73bf69",
    "#f2cc0c",
    "#8ab8ff",
    "#ff780a",
    "#f2495c",
    "#5794f2",
    "#b877d9",
    "#705da0",
    "#37872d",
    "#fade2a",
    "#447ebc",
    "#c15c17",
    "#890f02",
    "#0a437c",
)
"""Colours of series in their order, where none is fixed."""

WIDTH = 1400
"""Of a picture, in pixels."""

UNIT_HEIGHT = 34
"""Of a unit of Grafana's grid, in pixels; on a screen it is 38."""

MARGIN = 8
"""Between panels, in pixels."""

HEADER = 78
"""Height of what is above the panels, in pixels."""


def colour(name: str, *, solid: bool = False) -> str:
    """Return the code of a colour, whose name may be a code."""
    return (SOLID if solid else NAMED).get(name, name)
