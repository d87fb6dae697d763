"""The overview, for whoever is on call: is it answering, is it degraded, since when, why?"""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard, Panel

from dashboards.board import DEGRADED, Row, board
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
    name,
    words,
)
from dashboards.promql import (
    NOW,
    REQUESTED,
    greatest,
    increase,
    or_else,
    quantile,
    rate,
    select,
    total,
    what_there_is,
)
from dashboards.shared_panels import apologies, cooling, finished_messages

ABSENT = -2
"""Value of a verdict on something that no series tells about."""

IDLE = -1
"""Value of a verdict on something that was not asked for anything."""

FALLBACK = greatest(select("konstruct:llm_fallback:ratio_rate5m", REQUESTED))
"""Share of answers by another group than the one asked for, of the group that is worst off."""

REQUESTS = total(rate("konstruct_llm_requests_total", REQUESTED, over=NOW))
"""Requests for the chosen groups, in 1/s."""

WINDOWS = ("5m", "1h", "6h", "3d")
"""Windows over which error budgets are looked at."""


def overview() -> Dashboard:
    """Make the dashboard."""
    return board(
        "overview",
        "Overview",
        "Is it answering, is it degraded, since when, and why? The first thing to open when you are on call.",
        [
            Row([_answering(), _degraded(), _since(), _why(), _workers(), _edits()], height=4),
            Row([_served(), _reasons()], title="Why"),
            Row([_failed_calls(), cooling()]),
            Row([finished_messages(), apologies(), _times()], title="What people notice"),
            Row([_budget("degraded"), _budget("failed")], title="How much of it"),
        ],
        groups=True,
    )


def _answering() -> Panel:
    every = total(rate("konstruct_messages_total", over=NOW))
    without = total(rate("konstruct_messages_total", 'outcome!="answered"', over=NOW))
    share, idle = f"{without} / {every}", f"({every} == bool 0)"
    waiting = f"({greatest(select('konstruct_backlog_messages'))} > bool 0)"
    verdict = f"({share} > bool 0.01) + ({share} > bool 0.5) - {idle} + 4 * {idle} * {waiting}"
    return words(
        "Is it answering?",
        "Messages of the last five minutes. Mostly: more than 1 % ended without a model's answer. No: more "
        "than half did. Stuck: messages wait and none is finished. Nothing asked: none came.",
        Query(or_else(verdict, ABSENT)),
        {
            0: ("Yes", GOOD),
            1: ("Mostly", WARNING),
            2: ("No", BAD),
            3: ("Stuck", BAD),
            IDLE: ("Nothing asked", NEUTRAL),
            ABSENT: ("No worker seen", BAD),
        },
    )


def _degraded() -> Panel:
    share = f"({FALLBACK} or 0 * {REQUESTS})"
    verdict = f"({share} > bool {DEGRADED:g}) + ({share} > bool 0.5) - ({REQUESTS} == bool 0)"
    return words(
        "Is it degraded?",
        "Whether answers of the last five minutes came from another model group than the one that was asked "
        "for. Partly: more than 1 % of one group's did. Yes: more than half. Refused and failed requests do "
        "not count here.",
        Query(or_else(verdict, ABSENT)),
        {
            0: ("No", GOOD),
            1: ("Partly", WARNING),
            2: ("Yes", WARNING),
            IDLE: ("Nothing asked", NEUTRAL),
            ABSENT: ("No llm-pool seen", BAD),
        },
    )


def _since() -> Panel:
    degraded = f"(({FALLBACK} or 0 * {REQUESTS}) > bool {DEGRADED:g})"
    fine = f"max_over_time(timestamp({FALLBACK} <= {DEGRADED:g})[1d:30s])"
    return words(
        "Degraded for",
        "Time since no group was degraded, to half a minute; a day at most. Orange regions in the graphs are "
        "the same times.",
        Query(f"({degraded} * (time() - {fine})) or ({degraded} * 86400)"),
        {0: ("Not degraded", GOOD)},
        unit="s",
        limits=[(1, WARNING), (3600, BAD)],
    )


def _why() -> Panel:
    def most(matcher: str) -> str:
        reasons = total(increase("konstruct_llm_fallbacks_total", matcher, over=NOW), "reason")
        return f"topk(1, {reasons} > 0)"

    nothing = 'label_replace(vector(0), "reason", "nothing fell back", "", "")'
    cause, follows = most('reason!="cooldown"'), most('reason="cooldown"')
    return name(
        "Why",
        "The most frequent reason, in the last five minutes, why a group did not answer itself; `cooldown`, "
        "which only follows from others, if there is no other. What each means: docs/llm-pool.md.",
        Query(f"{cause} or on () {follows} or on () {nothing}", "{{reason}}"),
    )


def _workers() -> Panel:
    taking = f"{select('konstruct_worker_accepting')} * {select('konstruct_worker_consuming')}"
    every = f"count({select('konstruct_worker_accepting')})"
    verdict = f"({total(taking)} < bool {every}) + ({total(taking)} == bool 0)"
    return words(
        "Do workers take messages?",
        "A worker takes messages while its agents are known to be up to date and its connection to the "
        "queue is alive. Which one does not: Konstruct / Workers and queue.",
        Query(or_else(verdict, ABSENT)),
        {
            0: ("All of them", GOOD),
            1: ("Not all", WARNING),
            2: ("None", BAD),
            ABSENT: ("No worker seen", BAD),
        },
    )


def _edits() -> Panel:
    return words(
        "Are edits in effect?",
        "Agents whose active revision is not proven to be in effect on every worker yet. An edit takes "
        "about a second; a number that stays is a worker that is silent or refuses it.",
        Query(or_else(greatest(select("konstruct_operator_unsynced_agents")), ABSENT)),
        {0: ("Everywhere", GOOD), ABSENT: ("No operator seen", BAD)},
        unit="suffix: pending",
        limits=[(1, WARNING)],
    )


def _served() -> Panel:
    requests = rate("konstruct_llm_requests_total", REQUESTED)
    return graph(
        "Asked for → answered by",
        "Requests: the group that was asked for, the group that answered, the outcome. Green: as asked for; "
        "orange: by another group; red: by none (`_none`).",
        Query(what_there_is(requests, "requested_group", "served_group", "outcome"), "{{name}}"),
        unit=PER_SECOND,
        stacked=True,
        colours={
            "none": UNIMPORTANT,
            "/→ ok$/": WARNING,
            r"/^(.+) → \1 → ok$/": GOOD,
            "/→ _none →/": BAD,
            "/→ cancelled$/": UNIMPORTANT,
        },
    )


def _reasons() -> Panel:
    return graph(
        "Fallbacks, by reason",
        "How often another group was asked, and why the first did not answer. `cooldown`: all its "
        "deployments were left alone after earlier failures, so look at the calls below.",
        Query(what_there_is(rate("konstruct_llm_fallbacks_total"), "reason"), "{{name}}"),
        unit=PER_SECOND,
        stacked=True,
        colours=OUTCOMES,
    )


def _failed_calls() -> Panel:
    failed = rate("konstruct_llm_attempts_total", 'outcome!~"ok|cancelled"')
    return graph(
        "Failed calls to deployments",
        "Each call to a provider that brought no answer, and how it failed. What it brought down is beside.",
        Query(what_there_is(failed, "deployment", "outcome"), "{{name}}"),
        unit=PER_SECOND,
        stacked=True,
    )


def _times() -> Panel:
    return graph(
        "Time to a reply",
        "Waiting: from a message's receipt to its claim by a worker. Answering: from there to the recorded "
        "reply.",
        Query(quantile(0.95, "konstruct_message_queue_seconds"), "waiting, 95 %"),
        Query(quantile(0.5, "konstruct_message_duration_seconds"), "answering, 50 %"),
        Query(quantile(0.95, "konstruct_message_duration_seconds"), "answering, 95 %"),
        unit="s",
    )


def _budget(what: str) -> Panel:
    title, meaning = {
        "degraded": ("Share not answered as asked for", "not answered by the group that was asked for"),
        "failed": ("Share not answered at all", "not answered by any group"),
    }[what]
    return graph(
        title,
        f"Requests {meaning}, of the group that is worst off, over windows as the alerts look at them: the "
        "short ones say whether it goes on, the long ones what it has cost.",
        *(
            Query(greatest(select(f"konstruct:llm_{what}:ratio_rate{window}", REQUESTED)), window)
            for window in WINDOWS
        ),
        unit="percentunit",
    )
