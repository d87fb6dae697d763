"""``konstruct send``: one message, one reply."""

from __future__ import annotations

import sys
from pathlib import Path

from konstruct_cli.cluster.target import Cluster
from konstruct_cli.errors import ExitCode
from konstruct_cli.messages import compose
from konstruct_cli.output import emit, emit_json, envelope, talk
from konstruct_cli.stacks import open_stack
from shared.reply import MessageStatus, Reply


def run(
    text: str,
    *,
    tenant: str,
    agent: str,
    thread: str | None,
    message_id: str | None,
    sender: str | None,
    timeout_s: float,
    state_dir: Path | None,
    cluster: Cluster | None,
    as_json: bool,
) -> ExitCode:
    """Send `text` (``-``: standard input), wait for the reply and print it."""
    if text == "-":
        text = sys.stdin.read()
    message = compose(
        tenant=tenant, agent=agent, text=text, thread=thread, message_id=message_id, sender=sender
    )
    stack = open_stack(cluster, state_dir)
    try:
        with talk().status(f"waiting for {agent}"):
            reply = stack.ask(message, timeout_s)
    finally:
        stack.close()
    if as_json:
        emit_json(reply)
    else:
        emit(reply.text)
        talk().print(envelope(reply))
    return code_of(reply)


def code_of(reply: Reply) -> ExitCode:
    """Return the exit code that tells a script whether the message was answered."""
    return ExitCode.OK if reply.status is MessageStatus.ANSWERED else ExitCode.NOT_ANSWERED
