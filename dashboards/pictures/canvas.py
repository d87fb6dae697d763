"""A picture in pixels, from the top left, on which panels are drawn."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from dashboards.pictures import theme

_DPI = 100
_POINTS = 72 / _DPI
"""Points of a pixel: what matplotlib measures fonts and lines in."""


class Box(NamedTuple):
    """A rectangle, in pixels from the top left."""

    x: float
    """Left edge."""
    y: float
    """Upper edge."""
    width: float
    """Width."""
    height: float
    """Height."""

    def inside(self, *, left: float = 0, top: float = 0, right: float = 0, bottom: float = 0) -> Box:
        """Return what is left without margins."""
        return Box(self.x + left, self.y + top, self.width - left - right, self.height - top - bottom)


class Canvas:
    """A picture that is being drawn."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor=theme.PAGE)
        drawn_by = FigureCanvasAgg(self._figure)
        self._renderer = drawn_by.get_renderer()  # type: ignore[no-untyped-call]
        self._all = self._figure.add_axes((0, 0, 1, 1))
        self._all.set(xlim=(0, width), ylim=(height, 0))
        self._all.set_axis_off()

    def rectangle(self, box: Box, fill: str, *, edge: str | None = None) -> None:
        """Draw a rectangle."""
        line = 1 * _POINTS if edge else 0
        self._all.add_patch(
            Rectangle((box.x, box.y), box.width, box.height, facecolor=fill, edgecolor=edge, linewidth=line)
        )

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: float,
        colour: str = theme.TEXT,
        *,
        anchor: str = "left",
        bold: bool = False,
    ) -> None:
        """Write a line of text; its middle is at `y`, its left, center or right at `x`."""
        self._all.text(
            x,
            y,
            _plain(text),
            fontsize=size * _POINTS,
            color=colour,
            fontweight="bold" if bold else "normal",
            horizontalalignment=anchor,
            verticalalignment="center_baseline",
        )

    def width_of(self, text: str, size: float, *, bold: bool = False) -> float:
        """Measure a line of text, in pixels."""
        probe = self._all.text(
            0, 0, _plain(text), fontsize=size * _POINTS, fontweight="bold" if bold else "normal"
        )
        width: float = probe.get_window_extent(self._renderer).width
        probe.remove()
        return width

    def fitting(self, text: str, size: float, width: float, *, bold: bool = False) -> float:
        """Return `size`, or less if a line of text would be wider than `width`."""
        return min(size, size * width / max(self.width_of(text, size, bold=bold), 1))

    def shortened(self, text: str, size: float, width: float) -> str:
        """Return a line of text, cut with an ellipsis if it is wider than `width`."""
        if self.width_of(text, size) <= width:
            return text
        while text and self.width_of(f"{text}…", size) > width:
            text = text[:-1]
        return f"{text}…"

    def axes(self, box: Box) -> Axes:
        """Make room for a graph, without a frame and with faint ticks."""
        made = self._figure.add_axes(
            (
                box.x / self.width,
                1 - (box.y + box.height) / self.height,
                box.width / self.width,
                box.height / self.height,
            ),
            facecolor=theme.PANEL,
        )
        made.spines[:].set_visible(False)
        made.grid(visible=True, color=theme.GRID, linewidth=1 * _POINTS)
        made.set_axisbelow(True)
        made.tick_params(length=0, labelcolor=theme.FAINT, labelsize=11 * _POINTS, pad=3)
        return made

    def save(self, path: Path) -> None:
        """Write the picture, in as many colours as are seen."""
        with mpl.rc_context({"path.simplify": True}):
            self._figure.savefig(path, dpi=_DPI, facecolor=theme.PAGE)
        with Image.open(path) as drawn:
            drawn.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def _plain(text: str) -> str:
    """Keep matplotlib from reading dollars as mathematics."""
    return text.replace("$", r"\$")
