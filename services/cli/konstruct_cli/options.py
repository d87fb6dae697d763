"""Options that several commands take, declared once; those that choose a cluster among them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from konstruct_cli.cluster.target import Cluster
from konstruct_cli.errors import UsageError

LONGEST_S = 86_400.0
"""Longest that an option may have a command wait, in seconds: a day."""

WATCH_EVERY_S = 2.0
"""Seconds between two looks of a watch, where no option says otherwise."""

Tenant = Annotated[str, typer.Option("--tenant", "-t", help="Tenant that the agent belongs to.")]
"""Whose agent is spoken to."""

Agent = Annotated[str, typer.Option("--agent", "-a", help="Agent that should answer.")]
"""Who is spoken to."""

Thread = Annotated[str | None, typer.Option(help="Conversation to go on with; a new one when absent.")]
"""Which conversation goes on."""

Sender = Annotated[str | None, typer.Option(help="Who writes; the user's name when absent.")]
"""Who speaks."""

Timeout = Annotated[float, typer.Option(min=0.1, max=LONGEST_S, help="Seconds to wait for a reply.")]
"""How long a reply is waited for."""

StateDir = Annotated[
    Path | None, typer.Option(help="State folder of the local stack; .konstruct when absent.", metavar="DIR")
]
"""Which local stack."""

Json = Annotated[bool, typer.Option("--json", help="Write JSON to standard output.")]
"""Whether data is JSON."""

Port = Annotated[int | None, typer.Option(min=1, max=65_535, help="A free one is chosen when absent.")]
"""Port of a server of the local stack."""

_NAMESPACE = Annotated[
    str | None,
    typer.Option("--namespace", "-n", help="In a cluster: namespace to look in."),
]

_RELEASE = Annotated[
    str | None,
    typer.Option("--release", help="In a cluster: Helm release; needed if the namespace has several."),
]

_CONTEXT = Annotated[
    str | None,
    typer.Option("--context", help="In a cluster: context of the kubeconfig; its current one if absent."),
]

_KUBECONFIG = Annotated[
    Path | None,
    typer.Option(
        "--kubeconfig",
        help="In a cluster: kubeconfig; KUBECONFIG or ~/.kube/config if absent.",
        metavar="FILE",
    ),
]

_OPTIONS = {"namespace": _NAMESPACE, "release": _RELEASE, "context": _CONTEXT, "kubeconfig": _KUBECONFIG}


class Action(StrEnum):
    """What ``parked`` does."""

    LIST = "list"
    """Show the parked messages of a tenant."""

    RETRY = "retry"
    """Have one answered after all."""

    DROP = "drop"
    """Leave one unanswered for good."""


def in_cluster(*, release: bool = True) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of a cluster, which it gets as one ``cluster``: a ``Cluster`` or None.

    None of them given means no cluster. Without `release` it gets no option of that name.
    """
    options = {name: option for name, option in _OPTIONS.items() if release or name != "release"}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def with_options(**arguments: Any) -> None:
            chosen = {name: arguments.pop(name) for name in options}
            command(cluster=_cluster(chosen, arguments.get("state_dir")), **arguments)

        signature = inspect.signature(command, eval_str=True)
        keyword = inspect.Parameter.KEYWORD_ONLY
        parameters = [
            each.replace(kind=keyword) for each in signature.parameters.values() if each.name != "cluster"
        ]
        parameters += [
            inspect.Parameter(name, keyword, default=None, annotation=option)
            for name, option in options.items()
        ]
        # What typer reads: the command's own parameters and the options in place of `cluster`.
        with_options.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        with_options.__annotations__ = {each.name: each.annotation for each in parameters}
        return with_options

    return decorate


def _cluster(chosen: dict[str, Any], state_dir: Path | None) -> Cluster | None:
    given = [f"--{name}" for name, value in chosen.items() if value is not None]
    if not given:
        return None
    if chosen["namespace"] is None:
        raise UsageError(f"{given[0]} is for a cluster: name the namespace too, with --namespace")
    if state_dir is not None:
        raise UsageError("--state-dir is for a local stack and --namespace for one in a cluster: choose")
    return Cluster(**chosen)
