"""The parts that queries are put together from, so that a scope or a window is written once."""

from __future__ import annotations

SCOPE = ('namespace=~"$namespace"', 'release=~"$release"')
"""What every series is chosen by, scraped or recorded. "All" also matches series without the label."""

REQUESTED = 'requested_group=~"$group"'
"""Requests for the groups that are chosen, on metrics of requests."""

GROUP = 'group=~"$group"'
"""The groups that are chosen, on metrics of groups."""

KNOWN_GROUP = 'requested_group!="_unknown"'
"""Leaves out requests that were refused before a group was asked."""

WINDOW = "$__rate_interval"
"""A window that grows with the time range and always holds a few scrapes."""

NOW = "5m"
"""The window of what is said about now, as that of the recording rules."""

RANGE = "$__range"
"""The time range of the dashboard."""


def select(metric: str, *matchers: str) -> str:
    """Select a metric or what a recording rule made, within the scope."""
    return f"{metric}{{{', '.join((*SCOPE, *matchers))}}}"


def rate(metric: str, *matchers: str, over: str = WINDOW) -> str:
    """Give a counter's rate in 1/s."""
    return f"rate({select(metric, *matchers)}[{over}])"


def increase(metric: str, *matchers: str, over: str = RANGE) -> str:
    """Give by how much a counter rose."""
    return f"increase({select(metric, *matchers)}[{over}])"


def total(expression: str, *by: str) -> str:
    """Sum up, in all or by labels."""
    return _over("sum", expression, by)


def greatest(expression: str, *by: str) -> str:
    """Take the greatest, in all or by labels."""
    return _over("max", expression, by)


def least(expression: str, *by: str) -> str:
    """Take the least, in all or by labels."""
    return _over("min", expression, by)


def quantile(share: float, histogram: str, *matchers: str, by: str = "", over: str = WINDOW) -> str:
    """Estimate a quantile of a histogram, in its own unit, for each value of the labels `by`."""
    buckets = total(rate(f"{histogram}_bucket", *matchers, over=over), "le", *by.split())
    return f"histogram_quantile({share:g}, {buckets})"


def by_pod(expression: str) -> str:
    """Name each series in the label ``name`` by its pod; by its address where there are no pods."""
    by_instance = f'label_replace({expression}, "name", "$1", "instance", "(.*)")'
    return f'label_replace({by_instance}, "name", "$1", "pod", "(.+)")'


def named(expression: str, *labels: str) -> str:
    """Name each series in the label ``name`` by labels of it."""
    quoted = ", ".join(f'"{label}"' for label in labels)
    return f'label_join({expression}, "name", " → ", {quoted})'


def what_there_is(expression: str, *labels: str) -> str:
    """Sum up by labels and leave out zeroes, named as :func:`named` does; one series ``none`` if all are."""
    zero = f'label_replace({total(expression)}, "name", "none", "", "")'
    return f"({named(total(expression, *labels), *labels)} > 0) or on () {zero}"


def or_else(expression: str, value: float) -> str:
    """Say `value` when there is no series at all: not even a dead part may look like nothing."""
    return f"({expression}) or vector({value:g})"


def _over(function: str, expression: str, by: tuple[str, ...]) -> str:
    return f"{function} by ({', '.join(by)}) ({expression})" if by else f"{function}({expression})"
