"""``konstruct chat``: a conversation in one thread, by hand or from a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

from konstruct_cli.cluster.target import Cluster
from konstruct_cli.commands.send import code_of
from konstruct_cli.errors import ExitCode, UsageError
from konstruct_cli.messages import compose
from konstruct_cli.output import emit, emit_json, say, summary, talk
from konstruct_cli.stacks import open_stack

END_WORDS = ("/quit", "/exit")
"""Lines that end a conversation, as the end of input does."""


def run(
    *,
    tenant: str,
    agent: str,
    thread: str | None,
    sender: str | None,
    timeout_s: float,
    state_dir: Path | None,
    cluster: Cluster | None,
    as_json: bool,
) -> ExitCode:
    """Send each line of standard input and print its reply before the next one is read.

    A line that cannot be sent is told, and the next one is read. Returns the last code that was not OK, so
    that a script sees that a message was not answered.
    """
    thread = thread or f"cli-{uuid4().hex}"
    # A wrong name is told before anything is typed.
    compose(tenant=tenant, agent=agent, text="Hello", thread=thread, sender=sender)
    stack = open_stack(cluster, state_dir)
    code = ExitCode.OK
    try:
        say(f"Thread {thread}; go on later with --thread {thread}. Ctrl-D or /quit ends.", style="dim")
        for line in lines():
            try:
                message = compose(tenant=tenant, agent=agent, text=line, thread=thread, sender=sender)
            except UsageError as error:
                say(f"konstruct: {error}; the conversation goes on without it", style="red")
                code = error.code
                continue
            with talk().status(f"waiting for {agent}"):
                reply = stack.ask(message, timeout_s)
            if as_json:
                emit_json(reply)
            else:
                emit(reply.text)
                talk().print(summary(reply))
            code = code_of(reply) or code
    finally:
        stack.close()
    return code


def lines() -> Iterator[str]:
    """Read messages until the end of input or a word that ends the conversation; skip empty ones."""
    asking = sys.stdin.isatty()
    if asking:
        import readline  # noqa: F401, PLC0415 - gives input() history and line editing
    while True:
        try:
            if asking:
                talk().print("[bold]you>[/bold] ", end="")
            line = input() if asking else next(sys.stdin)
        except (EOFError, StopIteration):
            return
        line = line.strip()
        if line in END_WORDS:
            return
        if line:
            yield line
