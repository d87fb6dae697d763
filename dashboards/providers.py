"""Providers and cost: which deployments answer, how fast, and what the answers cost."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard, Panel

from dashboards.board import Row, board
from dashboards.panels import (
    BAD,
    GOOD,
    NEUTRAL,
    OUTCOMES,
    PER_SECOND,
    UNIMPORTANT,
    WARNING,
    Query,
    graph,
    number,
)
from dashboards.promql import (
    GROUP,
    KNOWN_GROUP,
    REQUESTED,
    by_pod,
    greatest,
    increase,
    named,
    quantile,
    rate,
    select,
    total,
    what_there_is,
)
from dashboards.shared_panels import cooling


def providers() -> Dashboard:
    """Make the dashboard."""
    return board(
        "providers",
        "Providers and cost",
        "Which deployments answer, how fast, why the others do not, and what the answers cost.",
        [
            Row([_usable(), _left_alone(), _room(), _spent(), _per_day(), _tokens_spent()], height=4),
            Row([_calls(), _success()], title="Deployments"),
            Row([_call_time(), cooling()]),
            Row([_turns(), _outcomes()], title="Requests"),
            Row([_request_time(), _overhead(), _in_flight()]),
            Row([_cost(), _cost_of_one(), _tokens()], title="Cost"),
        ],
        groups=True,
    )


def _usable() -> Panel:
    usable = f"min by (group) ({select('konstruct_llm_group_deployments', GROUP)})"
    return number(
        "Usable deployments",
        "Deployments that each group could ask: configured, with their key. A group with none is answered "
        "for by its fallback, with the reason `not_configured`.",
        Query(usable, "{{group}}"),
        limits=[(1, GOOD)],
        base=BAD,
    )


def _left_alone() -> Panel:
    return number(
        "Left alone now",
        "Deployments that are cooling down after failures in at least one pod of the llm-pool.",
        Query(total(greatest(select("konstruct_llm_deployment_cooling"), "deployment")), "deployments"),
        limits=[(1, WARNING)],
    )


def _room() -> Panel:
    busy, limit = select("konstruct_llm_in_flight"), select("konstruct_llm_in_flight_limit")
    return number(
        "Busiest pod",
        "Completions under way in the busiest pod of the llm-pool, as a share of what it takes "
        "(`llmPool.maxInFlight`). At 100 % requests are refused with 429.",
        Query(greatest(f"{busy} / {limit}"), "of its limit"),
        unit="percentunit",
        limits=[(0.7, WARNING), (0.9, BAD)],
        decimals=0,
    )


def _spent() -> Panel:
    return number(
        "Spent",
        "In the time range of the dashboard, for replies of models with a known price.",
        Query(total(increase("konstruct_llm_cost_usd_total", GROUP)), "US dollars"),
        unit="currencyUSD",
        base=NEUTRAL,
    )


def _per_day() -> Panel:
    return number(
        "A day at this rate",
        "What the last hour would cost in a day.",
        Query(f"86400 * {total(rate('konstruct_llm_cost_usd_total', GROUP, over='1h'))}", "US dollars"),
        unit="currencyUSD",
        base=NEUTRAL,
    )


def _tokens_spent() -> Panel:
    return number(
        "Tokens",
        "In the time range of the dashboard, as providers counted them.",
        Query(total(increase("konstruct_llm_tokens_total", GROUP), "direction"), "{{direction}}"),
        base=NEUTRAL,
        decimals=1,
    )


def _calls() -> Panel:
    calls = rate("konstruct_llm_attempts_total")
    return graph(
        "Calls, by deployment and outcome",
        "Each call to a provider. A request asks each deployment of its group at most once, so failed calls "
        "of one are followed by calls of the next.",
        Query(what_there_is(calls, "deployment", "outcome"), "{{name}}"),
        unit=PER_SECOND,
        stacked=True,
        colours={"none": UNIMPORTANT, "/→ ok$/": GOOD, "/→ cancelled$/": UNIMPORTANT},
    )


def _success() -> Panel:
    answered = total(rate("konstruct_llm_attempts_total", 'outcome="ok"'), "deployment")
    made = total(rate("konstruct_llm_attempts_total", 'outcome!="cancelled"'), "deployment")
    return graph(
        "Calls that brought an answer",
        "Share of each deployment's calls, without cancelled ones. A gap: it was not asked.",
        Query(f"{answered} / {made}", "{{deployment}}"),
        unit="percentunit",
        most=1,
    )


def _call_time() -> Panel:
    return graph(
        "Time of a call",
        "How long providers take, failed calls included.",
        *(
            Query(
                quantile(share, "konstruct_llm_attempt_duration_seconds", by="deployment"),
                f"{{{{deployment}}}}, {100 * share:g} %",
            )
            for share in (0.5, 0.95)
        ),
        unit="s",
    )


def _turns() -> Panel:
    turns = rate("konstruct_llm_fallbacks_total", 'from_group=~"$group"')
    return graph(
        "Fallbacks: from → to → why",
        "Times that another group was asked, and why the first did not answer. `not_configured`: it has no "
        "usable deployment; `cooldown`: all of its deployments were left alone.",
        Query(what_there_is(turns, "from_group", "to_group", "reason"), "{{name}}"),
        unit=PER_SECOND,
        stacked=True,
        colours={"none": UNIMPORTANT, **{f"/→ {reason}$/": colour for reason, colour in OUTCOMES.items()}},
    )


def _outcomes() -> Panel:
    return graph(
        "Requests, by outcome",
        "Every request, refused ones included: `ok`, `cancelled` by its sender, or the code of the problem "
        "document (docs/llm-pool.md).",
        Query(what_there_is(rate("konstruct_llm_requests_total"), "outcome"), "{{name}}"),
        unit=PER_SECOND,
        stacked=True,
        colours=OUTCOMES,
    )


def _request_time() -> Panel:
    return graph(
        "Time of a request",
        "From a request's arrival to its answer, by the group that was asked for.",
        *(
            Query(
                select(f"konstruct:llm_request_duration_seconds:p{percent}_rate5m", REQUESTED),
                f"{{{{requested_group}}}}, {percent} %",
            )
            for percent in (50, 95, 99)
        ),
        unit="s",
    )


def _overhead() -> Panel:
    return graph(
        "The pool's own part",
        "Time of a request that was not spent waiting for providers. It grows when the pool is short of "
        "processor time.",
        *(
            Query(quantile(share, "konstruct_llm_overhead_seconds"), f"{100 * share:g} %")
            for share in (0.5, 0.95, 0.99)
        ),
        unit="s",
    )


def _in_flight() -> Panel:
    busy, limit = select("konstruct_llm_in_flight"), select("konstruct_llm_in_flight_limit")
    return graph(
        "How full the pods are",
        "Completions under way, as a share of what each pod of the llm-pool takes.",
        Query(by_pod(f"{busy} / {limit}"), "{{name}}"),
        unit="percentunit",
        limits=[(0.9, BAD)],
    )


def _cost() -> Panel:
    return graph(
        "Cost of an hour",
        "By the group that answered. Models without a known price cost nothing here.",
        Query(f"3600 * {total(rate('konstruct_llm_cost_usd_total', GROUP), 'group')}", "{{group}}"),
        unit="currencyUSD",
        stacked=True,
    )


def _cost_of_one() -> Panel:
    cost = total(rate("konstruct_llm_cost_usd_total", GROUP, over="15m"), "group")
    answers = total(
        rate("konstruct_llm_requests_total", KNOWN_GROUP, 'outcome="ok"', over="15m"), "served_group"
    )
    by_group = f'label_replace({answers}, "group", "$1", "served_group", "(.+)")'
    return graph(
        "Cost of 1000 answers",
        "By the group that answered, over a quarter of an hour. A gap: it answered nothing.",
        Query(f"1000 * {cost} / on (group) {total(by_group, 'group')}", "{{group}}"),
        unit="currencyUSD",
    )


def _tokens() -> Panel:
    tokens = total(rate("konstruct_llm_tokens_total", GROUP), "group", "direction")
    return graph(
        "Tokens",
        "As providers counted them, by the group that answered; prompts and completions.",
        Query(named(tokens, "group", "direction"), "{{name}}"),
        unit=PER_SECOND,
        stacked=True,
    )
