"""What a dashboard asks Prometheus, read from the JSON that Grafana loads."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

Loaded = Mapping[str, Any]
"""A dashboard, as Grafana loads it."""

FILES = Path(__file__).parents[1] / "charts" / "konstruct" / "files" / "dashboards"
"""Where the chart has them."""

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|([a-zA-Z_]\w*))")


def load_all() -> dict[str, Loaded]:
    """Load every dashboard of the chart, by the name of its file."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(FILES.glob("*.json"))}


def panels(loaded: Loaded) -> list[Loaded]:
    """List the panels, without the headings of rows."""
    return [panel for panel in loaded["panels"] if panel["type"] != "row"]


def queries(loaded: Loaded, *, window: str = "1m", time_range: str = "1h") -> list[tuple[str, str]]:
    """List (title of the panel, PromQL) of every query, with everything chosen in every variable.

    Args:
        loaded: The dashboard.
        window: What ``$__rate_interval`` is; a few scrapes.
        time_range: What ``$__range`` is.
    """
    return [
        (panel["title"], resolve(target["expr"], loaded, window=window, time_range=time_range))
        for panel in panels(loaded)
        for target in panel["targets"]
    ]


def further_queries(loaded: Loaded) -> Iterator[tuple[str, str]]:
    """List (name, PromQL) of its annotations, and of the series whose labels its variables choose from."""
    for annotation in loaded["annotations"]["list"]:
        yield annotation["name"], resolve(annotation["expr"], loaded)
    for variable in loaded["templating"]["list"]:
        if variable["type"] == "query":
            found = re.fullmatch(r"label_values\((.+), \w+\)", variable["query"]["query"])
            assert found, variable["query"]
            yield variable["name"], resolve(found[1], loaded)


def resolve(expression: str, loaded: Loaded, *, window: str = "1m", time_range: str = "1h") -> str:
    """Fill in the variables.

    Raises:
        KeyError: the expression uses one that the dashboard does not have.
    """
    values = {"__rate_interval": window, "__interval": window, "__range": time_range}
    values |= {one["name"]: one["allValue"] for one in loaded["templating"]["list"] if one["type"] == "query"}
    return _VARIABLE.sub(lambda found: values[found[1] or found[2]], expression)
