"""Alerts, named so that two of one name but of another pace or component are told apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tests.support.prometheus import Api

FOR_GOOD = "/gradual"
"""End of the names of alerts that look back for days: once begun, they outlast the script."""


def identity(labels: Mapping[str, str]) -> str:
    """Name an alert, with its pace or its component where it has one."""
    return "/".join(filter(None, (labels["alertname"], labels.get("burn_rate"), labels.get("component"))))


def firing(api: Api) -> set[str]:
    """Return the alerts that are firing now."""
    return {identity(one["labels"]) for one in api.call("alerts")["alerts"] if one["state"] == "firing"}


def history(api: Api, start: float, end: float) -> Iterator[tuple[str, str, float]]:
    """List (alert, ``pending`` or ``firing``, time) for each second of a span in which it was so."""
    for series in api.query_range("ALERTS", start, end, 1):
        for point in series.points:
            yield identity(series.labels), series.labels["alertstate"], point.at
