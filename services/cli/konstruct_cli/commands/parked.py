"""``konstruct parked``: messages that processes die of, and what is to become of them."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from konstruct_cli.cluster.target import Cluster
from konstruct_cli.errors import ExitCode, UsageError
from konstruct_cli.messages import MessageName, TenantName
from konstruct_cli.options import Action
from konstruct_cli.output import data, emit_json, printable, say
from konstruct_cli.stacks import Stack, open_stack
from orchestrator.decisions import Decided, Decision, Parked


def run(
    action: Action,
    message_id: str | None,
    *,
    tenant: str,
    state_dir: Path | None,
    cluster: Cluster | None,
    as_json: bool,
) -> ExitCode:
    """Show the parked messages of a tenant, or decide about one of them."""
    if (message_id is None) != (action is Action.LIST):
        raise UsageError(
            "list takes no message" if message_id else f"name the message: konstruct parked {action} ID"
        )
    stack = open_stack(cluster, state_dir)
    try:
        if message_id is None:
            _list(stack, TenantName.of(tenant).tenant, as_json=as_json)
        else:
            named, decision = MessageName.of(tenant, message_id), Decision(action.value)
            decided = stack.decide(named.tenant, named.message_id, decision)
            if as_json:
                emit_json(decided)
            else:
                say(_told(named, decided))
    finally:
        stack.close()
    return ExitCode.OK


def _told(named: MessageName, decided: Decided) -> str:
    """Put a decision in words."""
    if decided.retried_as is None:
        return f"message {named.message_id} stays unanswered: its reply stays `failed`, `parked`"
    return (
        f"message {named.message_id} is retried as {decided.retried_as}, and its own reply stays. "
        f"How far that is: `konstruct explain --tenant {named.tenant} {decided.retried_as}`"
    )


def _list(stack: Stack, tenant: str, *, as_json: bool) -> None:
    parked = stack.parked(tenant)
    if as_json:
        emit_json(parked)
    elif parked.messages:
        data().print(_table(parked))
    else:
        say(f"tenant {tenant} has no parked message")


def _table(parked: Parked) -> Table:
    table = Table("message", "agent", "thread", "received", "parked", "deaths", box=None)
    for each in parked.messages:
        received, given_up = (f"{at:%Y-%m-%d %H:%M:%S}Z" for at in (each.received_at, each.parked_at))
        names = map(printable, (each.message_id, each.agent, each.thread_id))
        table.add_row(*names, received, given_up, str(each.deaths))
    return table
