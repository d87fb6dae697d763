"""``konstruct status``: who is up, what waits, which groups can serve, the fallback rate, agents.

A stack that is reached from here and one in a cluster need different clients: only one is imported.
"""
# ruff: noqa: PLC0415 - see above

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from konstruct_cli.cluster.target import Cluster
from konstruct_cli.errors import ExitCode
from konstruct_cli.output import data, emit_json, printable
from konstruct_cli.seen import AgentsStatus, PoolStatus, StackStatus
from konstruct_cli.waiting import Level, facts, judge, level_of
from orchestrator.asking import WorkerStatus
from shared.contract import GroupHealth


def run(*, state_dir: Path | None, cluster: Cluster | None, as_json: bool) -> ExitCode:
    """Look at the stack and print what was found; FAILED when a message could not be answered now."""
    status = _inspect(state_dir) if cluster is None else _inspect_from_a_pod(cluster)
    if as_json:
        emit_json(status)
    else:
        show(status)
    return ExitCode.OK if status.ok else ExitCode.FAILED


def _inspect(state_dir: Path | None) -> StackStatus:
    from konstruct_cli.client import connect
    from konstruct_cli.inspection import inspect

    connection = connect(state_dir)
    try:
        return inspect(connection)
    finally:
        connection.close()


def _inspect_from_a_pod(cluster: Cluster) -> StackStatus:
    from konstruct_cli.cluster.remote import RemoteError, RemoteStack

    pod, outcome = RemoteStack(cluster).run(["konstruct", "status", "--json"])
    try:
        status = StackStatus.model_validate_json(outcome.out)
    except ValidationError:
        raise RemoteError(outcome) from None
    source = f"release {pod.release} in namespace {cluster.namespace}, as pod {pod.name} sees it"
    return status.model_copy(update={"source": source})


def show(status: StackStatus, on: Console | None = None) -> None:
    """Print a status for people, on standard output or another console."""
    console = data() if on is None else on
    console.print(Text(status.source))
    console.print(_parts(status))
    if status.cluster is not None:
        console.print(_cluster(status.cluster))
    for worker in status.workers:
        if status.cluster is None or status.cluster.problem:
            console.print(_agents(worker))
        for problem in worker.problems:
            console.print(Text(printable(f"  {problem.where}: {problem.message}"), style="yellow"))


def _parts(status: StackStatus) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_row(*_part("PostgreSQL", ok=status.postgres.ok, detail=status.postgres.problem or "up"))
    placed = f"up, {status.redis.waiting} messages placed for the next free worker"
    table.add_row(*_part("Redis", ok=status.redis.ok, detail=status.redis.problem or placed))
    if status.backlog is not None:
        table.add_row(*_waiting(status))
    table.add_row(*_part("llm-pool", ok=status.llm_pool.ready, detail=_pool(status.llm_pool)))
    for group in status.llm_pool.groups:
        usable = group.configured and len(group.cooling) < len(group.deployments)
        table.add_row(*_part(f"  group {group.name}", ok=usable, detail=_group(group)))
    if not status.workers:
        detail = "none answers: start one with `konstruct up` or konstruct-worker"
        table.add_row(*_part("workers", ok=False, detail=detail))
    for worker in status.workers:
        detail = f"{worker.worker}, process {worker.pid}, {worker.in_flight} messages under way"
        if worker.draining:
            detail += ", shutting down"
        if not worker.watching:
            detail += ", does not follow changes of agents"
        if not worker.accepting:
            detail += ", takes no messages until it knows the agents to be up to date"
        table.add_row(*_part("worker", ok=worker.watching and worker.accepting, detail=detail))
    return table


def _waiting(status: StackStatus) -> tuple[Text, Text, Text]:
    level = level_of(status)
    mark = {Level.GOOD: "ok", Level.ODD: "! ", Level.BAD: "--"}[level]
    detail = Text(printable(", ".join([f"{status.in_flight} in flight", *facts(status)])))
    for each in judge(status):
        detail.append(printable(f"\n{each.words}"), style=each.level.value)
    return Text(mark, style=level.value), Text("messages"), detail


def _part(name: str, *, ok: bool, detail: str) -> tuple[Text, Text, Text]:
    mark = Text("ok", style="green") if ok else Text("--", style="red")
    return mark, Text(name), Text(printable(detail))


def _pool(pool: PoolStatus) -> str:
    if not pool.ok:
        return f"{pool.url} {pool.problem}"
    return f"{pool.url}, {pool.in_flight} under way, {ratio(pool)}" + ("" if pool.ready else ", not ready")


def ratio(pool: PoolStatus) -> str:
    """Put the fallback rate in words."""
    if pool.fallback_ratio is None:
        return "no replies yet"
    return f"{pool.fallback_replies} of {pool.replies} replies by fallback ({pool.fallback_ratio:.0%})"


def _group(group: GroupHealth) -> str:
    if not group.configured:
        then = f"; {', '.join(group.falls_back_to)} answers instead" if group.falls_back_to else ""
        return f"not configured: set {' or '.join(group.missing)}{then}"
    detail = ", ".join(group.deployments)
    return f"{detail}; cooling down: {', '.join(group.cooling)}" if group.cooling else detail


def _agents(worker: WorkerStatus) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("tenant", "agent", "revision", "group", ""):
        table.add_column(column)
    for agent in worker.agents:
        note = "suspended" if agent.suspended else ""
        table.add_row(agent.tenant_id, agent.agent, agent.revision, agent.group, note)
    if worker.agents_total > len(worker.agents):
        table.caption = f"and {worker.agents_total - len(worker.agents)} more"
    return table


def _cluster(found: AgentsStatus) -> Table | Text:
    if found.problem:
        return Text(printable(f"Agents cannot be read from the Kubernetes API: {found.problem}"), style="red")
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("tenant", "agent", "namespace", "revision", "ready", "synced"):
        table.add_column(column)
    for agent in found.agents:
        ready = "True" if agent.ready else f"False ({agent.reason})"
        synced = f"{agent.synced}/{found.workers}"
        row = (agent.tenant_id or "-", agent.agent, agent.namespace, agent.revision or "-", ready, synced)
        table.add_row(*map(printable, row))
    if found.silent:
        table.caption = printable(f"silent, and answering nothing: {', '.join(found.silent)}")
    return table
