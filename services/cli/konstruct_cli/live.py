"""A look at a stack that is one of many: on a terminal, and as one line."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from konstruct_cli.output import printable
from konstruct_cli.pool_metrics import GroupTraffic, Traffic
from konstruct_cli.seen import StackStatus
from konstruct_cli.waiting import facts, judge


def screen(status: StackStatus) -> RenderableType:
    """Lay a look out for a terminal."""
    parts: list[RenderableType] = [Text(f"{_now()}  {printable(status.source)}", style="dim")]
    parts.append(_groups(status))
    parts += [Text(printable(fact)) for fact in _facts(status)]
    parts += [Text(printable(each.words), style=each.level.value) for each in judge(status)]
    parts += [Text(printable(trouble), style="red") for trouble in _troubles(status)]
    return Group(*parts)


def line(status: StackStatus) -> str:
    """Put a look in one line."""
    interval = status.llm_pool.replicas.interval
    if interval is None:
        asked = f"since the llm-pool started: {_since_start(status.llm_pool.replicas.since_start)}"
    else:
        asked = "; ".join(_words(group) for group in interval.traffic.groups) or "no model groups"
    return f"{_now()}  " + " | ".join(
        [asked, *_facts(status), *(each.words for each in judge(status)), *_troubles(status)]
    )


def _groups(status: StackStatus) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("group")
    for column in ("requests/s", "fallback", "failed", "fallback since start"):
        table.add_column(column, justify="right")
    table.add_column("why another group was asked")
    replicas = status.llm_pool.replicas
    lately = (
        {each.requested_group: each for each in replicas.interval.traffic.groups} if replicas.interval else {}
    )
    for ever in replicas.since_start.groups:
        group = lately.get(ever.requested_group)
        table.add_row(
            printable(ever.requested_group),
            "..." if group is None else f"{group.requests_per_s or 0.0:.1f}",
            "..." if group is None else Text(percent(group.fallback_ratio), style=_colour(group.degraded)),
            "..." if group is None else Text(percent(group.failed_ratio), style=_colour(group.failed)),
            percent(ever.fallback_ratio),
            "" if group is None else reasons(group.reasons),
        )
    return table


def _words(group: GroupTraffic) -> str:
    """Put one group's interval in words."""
    if not group.requests:
        return f"{group.requested_group} 0.0/s"
    why = f" ({reasons(group.reasons)})" if group.reasons else ""
    return (
        f"{group.requested_group} {group.requests_per_s or 0.0:.1f}/s, "
        f"{percent(group.fallback_ratio)} fallback{why}, {percent(group.failed_ratio)} failed"
    )


def _since_start(traffic: Traffic) -> str:
    if traffic.fallback_ratio is None:
        return "no replies yet"
    return f"{traffic.degraded} of {traffic.answers} replies by fallback ({traffic.fallback_ratio:.0%})"


def _facts(status: StackStatus) -> Iterator[str]:
    replicas = status.llm_pool.replicas
    if replicas.cooling:
        yield f"cooling: {', '.join(replicas.cooling)}"
    if replicas.interval is not None and replicas.interval.traffic.refused:
        yield f"refused: {reasons(replicas.interval.traffic.refused)}"
    yield _workers(status)
    yield f"in flight {status.in_flight}"
    yield from facts(status)
    yield _agents(status)


def _troubles(status: StackStatus) -> Iterator[str]:
    for name, part in (
        ("PostgreSQL", status.postgres),
        ("Redis", status.redis),
        ("llm-pool", status.llm_pool),
    ):
        if not part.ok:
            yield f"{name} {part.problem}"
    if status.llm_pool.ok and not status.llm_pool.ready:
        yield "llm-pool not ready"
    replicas = status.llm_pool.replicas
    if replicas.silent:
        yield f"{len(replicas.silent)} of {replicas.addresses} replicas of the llm-pool do not answer"
    if replicas.note is not None:
        yield replicas.note
    if status.cluster is not None and status.cluster.problem:
        yield f"Agents cannot be read: {status.cluster.problem}"


def _workers(status: StackStatus) -> str:
    taking = sum(worker.accepting and not worker.draining for worker in status.workers)
    known = status.cluster.workers if status.cluster is not None else 0
    return f"workers {taking}/{max(known, len(status.workers))}"


def _agents(status: StackStatus) -> str:
    if status.cluster is not None and not status.cluster.problem:
        agents = status.cluster.agents
        synced = sum(bool(each.synced) and each.synced == status.cluster.workers for each in agents)
        return f"agents {synced}/{len(agents)} synced"
    return f"agents {max((worker.agents_total for worker in status.workers), default=0)}"


def percent(share: float | None) -> str:
    """Put a share in words; none is not zero."""
    return "-" if share is None else f"{share:.1%}"


def reasons(counted: dict[str, int]) -> str:
    """Put counted reasons in words."""
    return ", ".join(f"{reason} {count}" for reason, count in counted.items())


def _colour(count: int) -> str:
    return "red" if count else "green"


def _now() -> str:
    return datetime.now().astimezone().strftime("%H:%M:%S")
