"""The pictures of the dashboards: what they write, and that every panel is drawn, with data and without."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dashboards.pictures.answers import Asker
from dashboards.pictures.drawing import verdict
from dashboards.pictures.page import draw
from dashboards.pictures.theme import SOLID, WIDTH
from dashboards.pictures.units import shown
from dashboards.queries import load_all, panels
from tests.support.prometheus import Api

IMAGES = Path(__file__).parents[2] / "docs" / "images"

LOADED = load_all()

START, END = 1_800_000_000.0, 1_800_000_600.0


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.1234, "percentunit", "12.3%"),
        (1, "percentunit", "100%"),
        (0.0331, "currencyUSD", "$0.0331"),
        (0, "s", "0 s"),
        (0.0042, "s", "4.2 ms"),
        (90, "s", "1.5 mins"),
        (86400, "s", "1 day"),
        (7200, "short", "7.2 K"),
        (3, "none", "3"),
        (2.5, "suffix:/s", "2.5/s"),
        (2, "suffix: pending", "2 pending"),
        (math.nan, "s", "NaN"),
    ],
)
def test_values_are_written_as_grafana_does(value: float, unit: str, text: str) -> None:
    assert shown(value, unit) == text


def test_every_unit_in_use_is_known() -> None:
    for loaded in LOADED.values():
        for panel in panels(loaded):
            assert shown(1.5, panel["fieldConfig"]["defaults"].get("unit", "none"))


def test_a_verdict_is_the_word_for_its_value() -> None:
    by_title = {panel["title"]: panel for panel in panels(LOADED["overview"])}
    answering = by_title["Is it answering?"]["fieldConfig"]["defaults"]
    assert verdict(answering, 0) == ("Yes", SOLID["green"])
    assert verdict(answering, -2) == ("No worker seen", SOLID["red"])
    since = by_title["Degraded for"]["fieldConfig"]["defaults"]
    assert verdict(since, 0) == ("Not degraded", SOLID["green"])
    assert verdict(since, 120) == ("2 mins", SOLID["orange"])
    assert verdict(since, 7200) == ("2 hours", SOLID["red"])


def prometheus(labels: Mapping[str, str] | None) -> Api:
    """Make one that has one series, or none, for whatever it is asked."""

    def get(path: str, query: Mapping[str, str]) -> str:
        kind, result = ("matrix", "values") if path.endswith("query_range") else ("vector", "value")
        found: list[dict[str, Any]] = []
        if labels is not None and kind == "matrix":
            times = range(int(float(query["start"])), int(float(query["end"])), int(float(query["step"])))
            found = [{"metric": labels, result: [[at, str(at // 60 % 2)] for at in times]}]
        elif labels is not None:
            found = [{"metric": labels, result: [float(query["time"]), "1"]}]
        return json.dumps({"status": "success", "data": {"resultType": kind, "result": found}})

    return Api(get)


@pytest.mark.parametrize("labels", [None, {"name": "one"}], ids=["nothing", "something"])
@pytest.mark.parametrize("name", LOADED)
def test_every_panel_is_drawn(tmp_path: Path, name: str, labels: Mapping[str, str] | None) -> None:
    path = tmp_path / "drawn.png"
    draw(LOADED[name], Asker(prometheus(labels), START, END, scrape_s=5)).save(path)
    with Image.open(path) as drawn:
        assert drawn.width == WIDTH


@pytest.mark.parametrize("name", LOADED)
def test_the_documentation_has_a_picture_that_loads_fast(name: str) -> None:
    path = IMAGES / f"dashboard-{name}.png"
    assert path.stat().st_size < 250_000
    assert f"images/{path.name}" in (IMAGES.parent / "dashboards.md").read_text()
