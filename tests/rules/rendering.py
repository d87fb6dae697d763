"""The chart's rules, as Prometheus reads them; run as a program it writes the plain rules file."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tests.chart.rendering import CHART, IN_CHART, render_text

TEMPLATE = "templates/rules/prometheus-rule.yaml"
"""The chart's template of them."""

PLAIN = CHART.parents[1] / "deploy" / "prometheus" / "konstruct.rules.yaml"
"""The same rules for a Prometheus without an operator."""

PLAIN_HEAD = """\
# Recording rules and alerts of Konstruct: docs/slo.md. Made of the chart's values by
# `python -m tests.rules.rendering`. For others: helm template with monitoring.rules set, and the spec of its
# PrometheusRule.
"""
"""What the plain file begins with."""

ON = {"monitoring.rules.enabled": True}
"""Values: rules of one release."""

EVERY_RELEASE = {**ON, "monitoring.rules.ownSeriesOnly": False}
"""Values: rules of every release that a Prometheus scrapes."""

Rule = dict[str, Any]

Matcher = tuple[str, str, str]
"""Label, operator, value."""

_NAME = r"(?<![\w:\"])(konstruct[_:][\w:]+)"
_SELECTOR = re.compile(_NAME + r"(\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"([^"]*)"')


class Selector(NamedTuple):
    """What an expression reads."""

    name: str
    """The metric, or the record."""

    matchers: tuple[Matcher, ...]
    """What its labels must be."""


def render_rules(
    *values: Path | Mapping[str, Any], release: str = "konstruct", namespace: str = "konstruct"
) -> dict[str, Any]:
    """Render the PrometheusRule and return its spec, which is what a rules file holds."""
    spec: dict[str, Any] = yaml.safe_load(rules_file(*values, release=release, namespace=namespace))
    return spec


def rules(spec: Mapping[str, Any]) -> Iterator[Rule]:
    """List every rule."""
    for group in spec["groups"]:
        yield from group["rules"]


def alerts(spec: Mapping[str, Any]) -> list[Rule]:
    """List every alert."""
    return [rule for rule in rules(spec) if "alert" in rule]


def records(spec: Mapping[str, Any]) -> set[str]:
    """Name every record."""
    return {rule["record"] for rule in rules(spec) if "record" in rule}


def selectors(expressions: Iterable[str]) -> Iterator[Selector]:
    """List what expressions read of Konstruct's."""
    for expression in expressions:
        for found in _SELECTOR.finditer(expression):
            yield Selector(found[1], tuple(_MATCHER.findall(found[3] or "")))


def needed(spec: Mapping[str, Any], alert: str) -> dict[str, Any]:
    """Return the rules of one alert and every record that they come to read."""
    wanted, kept = {alert}, dict[int, Rule]()
    for rule in reversed(list(rules(spec))):  # a record comes before what reads it
        if rule.get("record", rule.get("alert")) in wanted:
            kept[id(rule)] = rule
            wanted |= {selector.name for selector in selectors([rule["expr"]])}
    groups = [
        {**group, "rules": [rule for rule in group["rules"] if id(rule) in kept]} for group in spec["groups"]
    ]
    return {"groups": [group for group in groups if group["rules"]]}


def rules_file(
    *values: Path | Mapping[str, Any], release: str = "konstruct", namespace: str = "konstruct"
) -> str:
    """Render the spec of the PrometheusRule as the text that the chart has."""
    text = render_text(values, release, namespace, ("--show-only", TEMPLATE))
    return textwrap.dedent(text.partition("\nspec:\n")[2])


def plain() -> str:
    """Write the plain rules file."""
    return PLAIN_HEAD + rules_file(IN_CHART, EVERY_RELEASE)


if __name__ == "__main__":
    PLAIN.write_text(plain())
