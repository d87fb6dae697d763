"""The stack that commands talk to: one that this machine reaches, or one in a cluster.

What speaks to either is loaded when it is used: a laptop needs no database driver to talk to a cluster.
"""
# ruff: noqa: PLC0415 - see above

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from konstruct_cli.cluster.target import Cluster

if TYPE_CHECKING:
    from orchestrator.decisions import Decided, Decision, Parked
    from orchestrator.evidence import Evidence
    from orchestrator.purged import Purged
    from shared.models import KonstructMessage
    from shared.reply import Reply


class Stack(Protocol):
    """Something that messages can be sent to, and that remembers them."""

    def ask(self, message: KonstructMessage, timeout_s: float) -> Reply:
        """Submit `message` and wait for its reply.

        Raises:
            CliError: there is none; the class tells why.
        """

    def explain(self, tenant: str, message_id: str, *, texts: bool) -> Evidence:
        """Read the evidence of a message, with what was said in it only if `texts`.

        Raises:
            CliError: there is none; the class tells why.
        """

    def parked(self, tenant: str) -> Parked:
        """List the parked messages of a tenant.

        Raises:
            CliError: they cannot be had; the class tells why.
        """

    def decide(self, tenant: str, message_id: str, decision: Decision) -> Decided:
        """Decide what becomes of a parked message, and tell it; the same decision again changes nothing.

        Raises:
            CliError: it is not parked, something else is decided, or nothing could be done; the class tells
                which.
        """

    def purge(self, tenant: str | None, older_than: timedelta) -> Purged:
        """Delete messages that finished longer ago than `older_than`, of one tenant or of all.

        Raises:
            CliError: they cannot be deleted; the class tells why.
        """

    def close(self) -> None:
        """End every connection."""


def open_stack(cluster: Cluster | None, state_dir: Path | None) -> Stack:
    """Open the stack of `cluster`, or without one the local one or the environment's.

    Raises:
        CliError: there is none.
    """
    if cluster is not None:
        from konstruct_cli.cluster.remote import RemoteStack

        return RemoteStack(cluster)
    from konstruct_cli.client import connect, traced

    return traced(connect(state_dir))
