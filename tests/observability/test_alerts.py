"""The chart's alerts on a real Prometheus: each goes pending and firing when it should, and ends after."""

from __future__ import annotations

import pytest

from tests.chart.rendering import kinds
from tests.observability.alerts import FOR_GOOD, history, identity
from tests.observability.conftest import Run
from tests.observability.script import PROVIDERS, REST, Phase, Played

PHASES = [phase for phase in (*PROVIDERS, *REST) if phase.fires]

CONSEQUENCES = {
    "KonstructLLMFailing",
    "KonstructLLMDegraded",
    "KonstructLLMSlow",
    "KonstructMessagesUnserved",
    "KonstructNoProvider",
    "KonstructDeploymentCooling",
}
"""Alerts that failing and recovering providers may bring about."""


def played(observed: Run, phase: Phase) -> Played:
    [found] = [one for one in observed.played if one.phase is phase]
    return found


@pytest.mark.parametrize("phase", PHASES, ids=[phase.name for phase in PHASES])
def test_expected_alerts_go_pending_then_firing(observed: Run, phase: Phase) -> None:
    when = played(observed, phase)
    began: dict[tuple[str, str], float] = {}
    for alert, state, at in history(observed.api, when.start, when.end + 1):
        began[alert, state] = min(at, began.get((alert, state), at))
    for alert in phase.fires:
        assert (alert, "firing") in began, alert
        assert began[alert, "pending"] < began[alert, "firing"], alert


def test_alerts_end_when_all_is_well(observed: Run) -> None:
    for calm in (one for one in observed.played if one.phase.calms):
        left = {alert for alert, state, _ in history(observed.api, calm.end, calm.end) if state == "firing"}
        assert not {alert for alert in left if not alert.endswith(FOR_GOOD)}, calm.phase.name


def test_nothing_fires_while_all_is_well(observed: Run) -> None:
    healthy = observed.played[0]
    begun = {(alert, state) for alert, state, _ in history(observed.api, healthy.start, healthy.end)}
    # A scrape may see the edit on its way, which is what it is pending for.
    assert begun <= {("KonstructAgentNotSynced", "pending")}


def test_failing_providers_bring_about_no_other_alert(observed: Run) -> None:
    fired = {
        alert.partition("/")[0]
        for alert, state, _ in history(observed.api, observed.start, observed.counted.at)
        if state == "firing"
    }
    assert fired <= CONSEQUENCES


def test_the_script_makes_every_alert_fire(observed: Run) -> None:
    [rules] = kinds(observed.stage.manifests, "PrometheusRule")
    there_are = {
        identity({"alertname": rule["alert"], **rule["labels"]})
        for group in rules["spec"]["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }
    fired = {
        alert for alert, state, _ in history(observed.api, observed.start, observed.end) if state == "firing"
    }
    assert {name.partition("/")[0] for name in there_are} == {name.partition("/")[0] for name in fired}
    assert fired <= there_are
