"""Agents and their configuration: is an edit in effect, on which worker not, and how long does it take?"""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard, Panel

from dashboards.board import Row, board
from dashboards.panels import (
    BAD,
    GOOD,
    NEUTRAL,
    OUTCOMES,
    PER_SECOND,
    WARNING,
    Query,
    graph,
    number,
    timeline,
)
from dashboards.promql import NOW, by_pod, greatest, least, quantile, rate, select, total

LAG = "konstruct_agent_config_lag_seconds"
"""Histogram of the time from an edit to its effect in a worker."""


def agents() -> Dashboard:
    """Make the dashboard."""
    return board(
        "agents",
        "Agents and configuration",
        "Which agents are ready, whether edits reach every worker, how fast, and what the operator does.",
        [
            Row([_ready(), _pending(), _lag_now(), _following(), _workers_now(), _waiting()], height=4),
            Row([_lag(), _unsynced()], title="How edits get into effect"),
            Row([_loaded(), _connected()]),
            Row([_reconciles(), _reconcile_time(), _queue()], title="Operator"),
            Row([_workers(), _accepting(), _not_served()]),
        ],
        groups=False,
    )


def _ready() -> Panel:
    return number(
        "Agents",
        "Ready: accepted, rendered, in effect and not suspended. For the others `kubectl get agents -A` "
        "shows the reason.",
        Query(greatest(select("konstruct_operator_agents", 'ready="true"')), "ready"),
        Query(greatest(select("konstruct_operator_agents", 'ready="false"')), "not ready"),
        base=NEUTRAL,
    )


def _pending() -> Panel:
    return number(
        "Edits pending",
        "Agents whose active revision is not proven to be in effect on every worker yet.",
        Query(greatest(select("konstruct_operator_unsynced_agents")), "agents"),
        limits=[(1, WARNING)],
    )


def _lag_now() -> Panel:
    return number(
        "Edit to effect, 99 %",
        "From the operator's first sight of an edit to its effect in a worker, in the time range of the "
        "dashboard.",
        Query(quantile(0.99, LAG, over="$__range"), "of all edits"),
        unit="s",
        nothing="no edits",
        limits=[(2, WARNING), (10, BAD)],
    )


def _following() -> Panel:
    connected = select("konstruct_watch_connected")
    return number(
        "Workers that follow",
        "Workers whose watch of Agents is connected, and all workers.",
        Query(total(connected), "follow"),
        Query(f"count({connected})", "of"),
        base=NEUTRAL,
    )


def _workers_now() -> Panel:
    return number(
        "Workers, by their Leases",
        "What the operator knows of the release's workers. A silent one's Lease has run out while its Pod "
        "may still be there: no edit counts as in effect until it certainly answers no more.",
        Query(greatest(select("konstruct_operator_workers"), "state"), "{{state}}"),
        base=NEUTRAL,
    )


def _waiting() -> Panel:
    return number(
        "Waiting for the operator",
        "Agents that the operator has still to look at.",
        Query(greatest(select("konstruct_operator_queue_depth")), "agents"),
        limits=[(10, WARNING), (100, BAD)],
    )


def _lag() -> Panel:
    return graph(
        "From an edit to its effect",
        "From the operator's first sight of an edit to its effect in each worker. A gap: nothing was edited.",
        Query(quantile(0.5, LAG, over=NOW), "50 %"),
        Query(quantile(0.95, LAG, over=NOW), "95 %"),
        Query(greatest(select("konstruct:agent_config_lag_seconds:p99_rate5m")), "99 %"),
        unit="s",
    )


def _unsynced() -> Panel:
    return graph(
        "Agents whose edit is pending",
        "A peak after many edits is their way into effect. What stays is a worker that is silent or refuses "
        "a revision: `kubectl get agents -A -o wide` names it.",
        Query(greatest(select("konstruct_operator_unsynced_agents")), "pending"),
        unit="none",
    )


def _loaded() -> Panel:
    return graph(
        "Agents in effect, by worker",
        "Lines that differ for longer than moments are workers that do not see the same Agents.",
        Query(by_pod(select("konstruct_agents_loaded")), "{{name}}"),
        unit="none",
    )


def _connected() -> Panel:
    return timeline(
        "Watch of Agents, by worker",
        "A worker that follows nothing goes on with what it has for the duration of its Lease; then it takes "
        "no messages.",
        Query(by_pod(select("konstruct_watch_connected")), "{{name}}"),
        {0: ("cut off", BAD), 1: ("follows", GOOD)},
    )


def _reconciles() -> Panel:
    return graph(
        "Looks at an Agent, by outcome",
        "Changed: something was written. Retried and failed: the log of the operator says why.",
        Query(total(rate("konstruct_operator_reconciles_total"), "outcome"), "{{outcome}}"),
        unit=PER_SECOND,
        stacked=True,
        colours=OUTCOMES,
    )


def _reconcile_time() -> Panel:
    return graph(
        "Time of one look",
        "How long the operator takes for one look at an Agent, its writes included.",
        *(
            Query(quantile(share, "konstruct_operator_reconcile_duration_seconds"), f"{100 * share:g} %")
            for share in (0.5, 0.99)
        ),
        unit="s",
    )


def _queue() -> Panel:
    return graph(
        "Agents that wait to be looked at",
        "The operator's queue. It is full for moments after a start, when every Agent is looked at.",
        Query(greatest(select("konstruct_operator_queue_depth")), "waiting"),
        unit="none",
    )


def _workers() -> Panel:
    return graph(
        "Workers, by their Leases",
        "Alive: its Lease is being renewed. Silent: it has run out.",
        Query(greatest(select("konstruct_operator_workers"), "state"), "{{state}}"),
        unit="none",
        stacked=True,
        colours={"alive": GOOD, "silent": BAD},
    )


def _accepting() -> Panel:
    return graph(
        "Workers that take messages",
        "Workers whose agents are known to be up to date. Those cut off too long take none.",
        Query(total(select("konstruct_worker_accepting")), "take messages"),
        Query(f"count({select('konstruct_worker_accepting')})", "all"),
        unit="none",
        limit="all",
    )


def _not_served() -> Panel:
    return graph(
        "Namespaces that are not served",
        "Left to another: another operator claims them. No right: listed in `watch.namespaces`, and the "
        "operator may not read them; `helm upgrade` makes its Role again. The log names them.",
        Query(least(select("konstruct_operator_refused_namespaces")), "left to another"),
        Query(greatest(select("konstruct_operator_unreadable_namespaces")), "no right"),
        unit="none",
        colours={"left to another": NEUTRAL, "no right": BAD},
    )
