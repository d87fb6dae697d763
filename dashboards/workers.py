"""Workers and queue: do messages wait, who takes them, and how long does an answer take?"""

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
    rows,
    timeline,
)
from dashboards.promql import (
    NOW,
    by_pod,
    greatest,
    least,
    quantile,
    rate,
    select,
    total,
    what_there_is,
)
from dashboards.shared_panels import apologies, finished_messages


def workers() -> Dashboard:
    """Make the dashboard."""
    return board(
        "workers",
        "Workers and queue",
        "Whether messages wait, which workers take them, how full they are and how long an answer takes.",
        [
            Row([_taking(), _deaf(), _backlog_now(), _wait_now(), _busy(), _unanswered()], height=4),
            Row([_backlog(), _wait()], title="Queue"),
            Row([finished_messages(), _put_back()]),
            Row([_accepting(), _consuming(), _in_flight()], title="Workers"),
            Row([_duration(), apologies(), _versions()], title="Answers"),
            Row([_pool_away(), _pool_retries(), _line()], title="Outages"),
            Row([_requeued(), _parked(), _refused(), _purged()]),
        ],
        groups=False,
    )


def _taking() -> Panel:
    accepting = select("konstruct_worker_accepting")
    return number(
        "Workers ready",
        "Workers whose agents are known to be up to date, and all workers.",
        Query(total(accepting), "ready"),
        Query(f"count({accepting})", "of"),
        base=NEUTRAL,
    )


def _deaf() -> Panel:
    consuming = select("konstruct_worker_consuming")
    return number(
        "Not consuming",
        "Workers that are alive but hear nothing from the queue, or have closed their tap because they may "
        "not take messages.",
        Query(f"count({consuming}) - {total(consuming)}", "workers"),
        limits=[(1, BAD)],
    )


def _backlog_now() -> Panel:
    return number(
        "Waiting in the queue",
        "Unfinished messages that no worker works on.",
        Query(greatest(select("konstruct_backlog_messages")), "messages"),
        limits=[(100, WARNING), (1000, BAD)],
    )


def _wait_now() -> Panel:
    return number(
        "Wait, 95 %",
        "From a message's receipt to its claim, over five minutes.",
        Query(greatest(select("konstruct:message_queue_seconds:p95_rate5m")), "of messages"),
        unit="s",
        nothing="no messages",
        limits=[(5, WARNING), (30, BAD)],
    )


def _busy() -> Panel:
    under_way, limit = select("konstruct_messages_in_flight"), select("konstruct_messages_in_flight_limit")
    return number(
        "Threads in use",
        "Messages under way in all workers, as a share of what they answer at once (`worker.concurrency`). "
        "Near 100 % messages wait: more workers help, unless providers are slow.",
        Query(f"{total(under_way)} / {total(limit)}", "of all"),
        unit="percentunit",
        limits=[(0.7, WARNING), (0.95, BAD)],
        decimals=0,
    )


def _unanswered() -> Panel:
    return number(
        "Without an answer",
        "Share of messages, over five minutes, that ended in an apology or cannot be answered.",
        Query(greatest(select("konstruct:messages_unanswered:ratio_rate5m")), "of messages"),
        unit="percentunit",
        nothing="no messages",
        limits=[(0.01, WARNING), (0.5, BAD)],
        decimals=1,
    )


def _backlog() -> Panel:
    return graph(
        "Waiting in the queue",
        "Unfinished messages that no worker works on, as PostgreSQL last counted them.",
        Query(greatest(select("konstruct_backlog_messages")), "messages"),
        unit="none",
    )


def _wait() -> Panel:
    return graph(
        "Wait until a worker takes it",
        "From a message's receipt to its claim. Messages of one conversation wait for each other.",
        Query(quantile(0.5, "konstruct_message_queue_seconds", over=NOW), "50 %"),
        Query(greatest(select("konstruct:message_queue_seconds:p95_rate5m")), "95 %"),
        Query(quantile(0.99, "konstruct_message_queue_seconds", over=NOW), "99 %"),
        unit="s",
    )


def _put_back() -> Panel:
    return graph(
        "Deliveries put back",
        "Because an earlier message of the conversation was not finished, another worker had the message, or "
        "PostgreSQL was away. Many at once with no messages finished: look at PostgreSQL.",
        Query(total(rate("konstruct_deliveries_put_back_total")), "put back"),
        unit=PER_SECOND,
        colours={"put back": WARNING},
    )


def _accepting() -> Panel:
    return timeline(
        "Takes messages",
        "A worker takes none while its agents may be out of date: it is starting, or cut off from the "
        "Kubernetes API for longer than its Lease.",
        Query(by_pod(select("konstruct_worker_accepting")), "{{name}}"),
        {0: ("takes none", WARNING), 1: ("takes messages", GOOD)},
    )


def _consuming() -> Panel:
    return timeline(
        "Hears the queue",
        "A worker that is alive but deaf is restarted by its liveness probe.",
        Query(by_pod(select("konstruct_worker_consuming")), "{{name}}"),
        {0: ("deaf, or its tap is off", BAD), 1: ("consumes", GOOD)},
    )


def _in_flight() -> Panel:
    return graph(
        "Messages under way, by worker",
        "And how many one worker answers at once.",
        Query(by_pod(select("konstruct_messages_in_flight")), "{{name}}"),
        Query(greatest(select("konstruct_messages_in_flight_limit")), "limit of one"),
        unit="none",
        limit="limit of one",
    )


def _duration() -> Panel:
    return graph(
        "Time of an answer",
        "From a message's delivery to its recorded reply; nearly all of it is the model's.",
        Query(quantile(0.5, "konstruct_message_duration_seconds", over=NOW), "50 %"),
        Query(greatest(select("konstruct:message_duration_seconds:p95_rate5m")), "95 %"),
        Query(quantile(0.99, "konstruct_message_duration_seconds", over=NOW), "99 %"),
        unit="s",
    )


def _versions() -> Panel:
    return rows(
        "What runs",
        "Processes by part and version: two versions of one part are a rollout that is under way or stuck.",
        Query(f"count by (component, version) ({select('konstruct_build_info')})"),
        {"component": "Part", "version": "Version", "Value": "Processes"},
    )


def _pool_away() -> Panel:
    return timeline(
        "Finds an llm-pool",
        "A worker that finds none has its messages wait, and asks for it by one request at a time. Those "
        "whose time runs out get an apology, `pool_unreachable`.",
        Query(by_pod(select("konstruct_pool_away")), "{{name}}"),
        {0: ("finds it", GOOD), 1: ("finds none", BAD)},
    )


def _pool_retries() -> Panel:
    return graph(
        "Requests sent to the llm-pool again, by reason",
        "Unreachable: it was not there. Lost: it went away while it answered. Unavailable, overloaded: it, "
        "or what is in its place said so. Only a share of all requests is sent again.",
        Query(what_there_is(rate("konstruct_pool_retries_total"), "reason"), "{{name}}"),
        unit=PER_SECOND,
        stacked=True,
        colours=OUTCOMES,
    )


def _line() -> Panel:
    line, limit = select("konstruct_tenant_backlog_messages"), select("konstruct_tenant_backlog_limit")
    return graph(
        "Longest line of a tenant",
        "Messages in PostgreSQL that wait their turn, of the tenant that has most, as a share of what may "
        "(`worker.tenantBacklog`). At 100 % `submit` refuses that tenant's messages.",
        Query(f"{greatest(line)} / {least(limit)}", "of its limit"),
        unit="percentunit",
        limits=[(0.8, WARNING), (1, BAD)],
    )


def _requeued() -> Panel:
    return graph(
        "Messages queued again",
        "Their delivery was lost: with a worker that died, with Redis, or with a sender that could not queue "
        "what it had recorded. Stranded: nothing would have worked on them any more; that should not happen.",
        Query(total(rate("konstruct_messages_requeued_total")), "queued again"),
        Query(total(rate("konstruct_messages_stranded_total")), "stranded"),
        unit=PER_SECOND,
        colours={"queued again": WARNING, "stranded": BAD},
    )


def _parked() -> Panel:
    return number(
        "Parked",
        "Messages that were given up because processes died of them, and that nobody has decided about yet: "
        "`konstruct parked list`.",
        Query(greatest(select("konstruct_parked_messages")), "messages"),
        limits=[(0.5, WARNING)],
        decimals=0,
    )


def _refused() -> Panel:
    return graph(
        "Deliveries refused, by reason",
        "`not_signed`: somebody without the key writes to Redis, or a sender has none or an old one. "
        "`message_conflict`: another message has its id. `message_invalid`: it could not even be recorded.",
        Query(what_there_is(rate("konstruct_deliveries_refused_total"), "reason"), "{{name}}"),
        unit=PER_SECOND,
        stacked=True,
        colours={"none": UNIMPORTANT, "not_signed": BAD, "message_conflict": WARNING},
    )


def _purged() -> Panel:
    return graph(
        "Messages deleted",
        "Finished messages that were kept for as long as the settings say (`retention.days`; 0 keeps all). "
        "None for days though messages come: the table only grows.",
        Query(total(rate("konstruct_messages_purged_total")), "deleted"),
        unit=PER_SECOND,
        colours={"deleted": UNIMPORTANT},
    )
