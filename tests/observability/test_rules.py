"""The chart's rules on a real Prometheus: what they record is there, and the ratios are true."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from tests.chart.rendering import kinds
from tests.observability.conftest import Run
from tests.observability.load import NONE, Ended
from tests.support.prometheus import Point

POINTS = 0.02
"""How far a recorded ratio may be from the truth."""

ENOUGH = 20
"""Requests from which on a ratio is compared: one of a few moves it by more than that."""

RATIOS = tuple(f"konstruct:llm_{name}:ratio_rate5m" for name in ("fallback", "degraded", "failed"))
"""What is compared; the windows are as long as the script."""

SKEW_S = 2.0
"""How old what a rule sees may be: a scrape and an evaluation, each every second, on a busy machine."""

MADE_BY_PROMETHEUS = {"ALERTS", "ALERTS_FOR_STATE", "up"}
"""What no component exposes."""


def rules(observed: Run, kind: str) -> list[dict[str, Any]]:
    """Return the chart's rules that record, or alert."""
    [found] = kinds(observed.stage.manifests, "PrometheusRule")
    return [rule for group in found["spec"]["groups"] for rule in group["rules"] if kind in rule]


def test_every_rule_was_evaluated_without_a_fault(observed: Run) -> None:
    loaded = observed.api.rules()
    assert len(loaded) == len(rules(observed, "record")) + len(rules(observed, "alert"))
    assert not [(rule["name"], rule["lastError"]) for rule in loaded if rule["health"] != "ok"]


def test_every_recording_rule_has_data(observed: Run) -> None:
    recorded = {rule["record"] for rule in rules(observed, "record")}
    assert recorded
    empty = {name for name in recorded if not observed.api.query_range(name, observed.start, observed.end, 1)}
    assert not empty


def test_no_rule_refers_to_a_metric_that_does_not_exist(observed: Run) -> None:
    known = observed.api.names() | MADE_BY_PROMETHEUS
    for rule in (*rules(observed, "record"), *rules(observed, "alert")):
        selected = {selector.metric for selector in observed.api.selectors(rule["expr"])}
        assert selected, rule
        assert selected <= known, rule


@pytest.mark.parametrize("record", RATIOS)
@pytest.mark.parametrize("group", ["quality", "fast"])
def test_a_ratio_is_what_the_replies_say(observed: Run, record: str, group: str) -> None:
    recorded = observed.api.value(f'{record}{{requested_group="{group}"}}', observed.counted.at)
    truth = share(record, [one for one in observed.counted.ended if one.requested == group])
    assert recorded == pytest.approx(truth, abs=POINTS)
    assert truth > POINTS or (record, group) == ("konstruct:llm_fallback:ratio_rate5m", "fast")


@pytest.mark.parametrize("record", RATIOS)
@pytest.mark.parametrize("group", ["quality", "fast"])
def test_a_ratio_is_true_all_along(observed: Run, record: str, group: str) -> None:
    asked = [one for one in observed.counted.ended if one.requested == group]
    wrong = {}
    compared = 0
    for at, value in samples(observed, f'{record}{{requested_group="{group}"}}'):
        # What was recorded rests on the scrape and, of another group of rules, the record before; and
        # the pool counts an answer before whoever asked has noted it.
        truths = [
            share(record, [one for one in asked if one.at <= moment])
            for moment in (at - SKEW_S, at - SKEW_S / 2, at, at + SKEW_S / 2, at + SKEW_S)
            if sum(one.at <= moment for one in asked) >= ENOUGH
        ]
        if truths:
            compared += 1
            if not min(truths) - POINTS <= value <= max(truths) + POINTS:
                wrong[round(at - observed.start, 1)] = (value, truths)
    assert not wrong
    assert compared > 20


def share(record: str, asked: Iterable[Ended]) -> float:
    """Compute what a rule should have recorded, from how requests ended."""
    asked = list(asked)
    answered = [one for one in asked if one.served != NONE]
    as_asked = [one for one in answered if one.served == one.requested]
    match record.split(":")[1]:
        case "llm_fallback":
            return 1 - len(as_asked) / len(answered)
        case "llm_degraded":
            return 1 - len(as_asked) / len(asked)
        case _:
            return 1 - len(answered) / len(asked)


def samples(observed: Run, selector: str) -> Iterator[Point]:
    """List what Prometheus has stored of a series, until all was counted."""
    span = observed.counted.at - observed.start
    for series in observed.api.query(f"{selector}[{span:.0f}s]", observed.counted.at):
        yield from series.points
