"""What Prometheus answers to a panel's queries, as Grafana would ask them."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dashboards.queries import Loaded, resolve
from tests.support.prometheus import Api, Series

POINTS = 400
"""Steps of a graph; Grafana takes about one for each pixel."""


@dataclass(frozen=True)
class Answer:
    """One series of a panel."""

    name: str
    """What its legend calls it."""

    labels: Mapping[str, str]
    """Its labels."""

    values: tuple[float, ...]
    """One for each of the times that were asked for, NaN where there is none; one alone for an instant."""


class Asker:
    """Asks for what is shown between two times."""

    def __init__(self, api: Api, start: float, end: float, *, scrape_s: float) -> None:
        """Choose the time.

        Args:
            api: The Prometheus.
            start: From when on, in seconds since the epoch.
            end: Until when.
            scrape_s: How often it scrapes: what Grafana calls the minimal step.
        """
        self._api = api
        self._scrape_s = scrape_s
        self.step_s = max(math.ceil((end - start) / POINTS), scrape_s)
        """Seconds between two points of a graph."""
        count = math.floor((end - start) / self.step_s)
        self.times = tuple(end - self.step_s * (count - index) for index in range(count + 1))
        """Times of the points, in seconds since the epoch."""

    def panel(self, panel: Loaded, dashboard: Loaded) -> list[Answer]:
        """Ask all queries of a panel."""
        return [answer for target in panel["targets"] for answer in self._target(target, dashboard)]

    def times_of(self, annotation: Loaded, dashboard: Loaded) -> list[tuple[float, float]]:
        """Ask for the regions of an annotation: from when to when any of its series had a value."""
        there = [self._aligned(series) for series in self._range(annotation["expr"], dashboard)]
        values = (any(not math.isnan(value) for value in at) for at in zip(*there, strict=True))
        shown = itertools.groupby(zip(self.times, values, strict=False), key=lambda one: one[1])
        spans = [[at for at, _ in span] for value, span in shown if value]
        return [(span[0] - self.step_s / 2, span[-1] + self.step_s / 2) for span in spans]

    def _target(self, target: Loaded, dashboard: Loaded) -> Iterator[Answer]:
        if target.get("instant"):
            expression = self._resolved(target["expr"], dashboard)
            for series in self._api.query(expression, self.times[-1]):
                yield Answer(_legend(target, series), series.labels, (series.value,))
        else:
            for series in self._range(target["expr"], dashboard):
                yield Answer(_legend(target, series), series.labels, self._aligned(series))

    def _range(self, expression: str, dashboard: Loaded) -> list[Series]:
        resolved = self._resolved(expression, dashboard)
        return self._api.query_range(resolved, self.times[0], self.times[-1], self.step_s)

    def _resolved(self, expression: str, dashboard: Loaded) -> str:
        window = max(self.step_s + self._scrape_s, 4 * self._scrape_s)
        whole = self.times[-1] - self.times[0]
        return resolve(expression, dashboard, window=f"{window:.0f}s", time_range=f"{whole:.0f}s")

    def _aligned(self, series: Series) -> tuple[float, ...]:
        found = {round((point.at - self.times[0]) / self.step_s): point.value for point in series.points}
        return tuple(found.get(index, math.nan) for index in range(len(self.times)))


def _legend(target: Loaded, series: Series) -> str:
    form: str = target["legendFormat"]
    if form == "__auto":
        return ", ".join(value for label, value in sorted(series.labels.items()) if label != "__name__")
    return re.sub(r"\{\{(\w+)\}\}", lambda found: series.labels.get(found[1], ""), form)
