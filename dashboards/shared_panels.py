"""Panels that more than one dashboard has."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Panel

from dashboards.panels import GOOD, OUTCOMES, PER_SECOND, WARNING, Query, graph, timeline
from dashboards.promql import greatest, rate, select, total, what_there_is


def cooling() -> Panel:
    """Show when which deployment was left alone."""
    return timeline(
        "Deployments left alone",
        "When a deployment was cooling down in at least one pod of the llm-pool: after failures it is not "
        "asked for a while.",
        Query(greatest(select("konstruct_llm_deployment_cooling"), "deployment"), "{{deployment}}"),
        {0: ("asked", GOOD), 1: ("left alone", WARNING)},
    )


def finished_messages() -> Panel:
    """Show how messages ended."""
    return graph(
        "Messages, by how they ended",
        "Answered: a model wrote the reply. Apologised: none could, and the sender got a polite sentence. "
        "Failed: the message cannot be answered as it stands, such as one to an unknown agent.",
        Query(total(rate("konstruct_messages_total"), "outcome"), "{{outcome}}"),
        unit=PER_SECOND,
        stacked=True,
        colours=OUTCOMES,
    )


def apologies() -> Panel:
    """Show why messages were not answered."""
    return graph(
        "Apologies, by reason",
        "Why no model's answer could be given.",
        Query(what_there_is(rate("konstruct_apologies_total"), "reason"), "{{name}}"),
        unit=PER_SECOND,
        stacked=True,
        colours=OUTCOMES,
    )
