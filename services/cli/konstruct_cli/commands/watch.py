"""``konstruct status --watch``: a look again and again, and what was asked of the models in between."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pydantic import ValidationError
from rich.live import Live

from konstruct_cli.client import connect
from konstruct_cli.cluster.target import Cluster
from konstruct_cli.errors import CliError, ExitCode
from konstruct_cli.inspection import inspect
from konstruct_cli.live import line, screen
from konstruct_cli.output import data, emit, emit_json
from konstruct_cli.replicas import Follower
from konstruct_cli.seen import StackStatus
from konstruct_cli.signals import Interrupted, interruptible

Show = Callable[[StackStatus], None]
"""What is done with a look."""


def run(
    *, state_dir: Path | None, cluster: Cluster | None, every_s: float, until_eof: bool, as_json: bool
) -> ExitCode:
    """Show a look each `every_s` seconds until Ctrl-C, which is how it is meant to end.

    On a terminal each takes the place of the last; elsewhere each is one line more, until the reader of the
    pipe is gone.
    """
    try:
        with interruptible():
            if until_eof:
                threading.Thread(target=_end_with_input, daemon=True).start()
            if as_json or not sys.stdout.isatty():
                _look(state_dir, cluster, every_s, partial(_append, as_json=as_json))
            else:
                with Live(console=data(), auto_refresh=False, vertical_overflow="crop") as live:
                    _look(state_dir, cluster, every_s, lambda seen: live.update(screen(seen), refresh=True))
    except Interrupted:
        gc.freeze()  # Python would look for garbage at its end, for half a second
    return ExitCode.OK


def _append(status: StackStatus, *, as_json: bool) -> None:
    try:
        if as_json:
            emit_json(status)
        else:
            emit(line(status))
    except BrokenPipeError:
        # Nobody reads on. What Python flushes at its end must go somewhere too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise Interrupted("SIGPIPE") from None


def _look(state_dir: Path | None, cluster: Cluster | None, every_s: float, show: Show) -> None:
    if cluster is not None:
        _follow(cluster, every_s, show)
        return
    connection = connect(state_dir)
    try:
        follower = Follower(connection.settings)
        while True:
            began = time.monotonic()
            show(inspect(connection, follower))
            time.sleep(max(every_s - (time.monotonic() - began), 0.0))
    finally:
        connection.close()


def _follow(cluster: Cluster, every_s: float, show: Show) -> None:
    """Have a worker's Pod look, and show what it sees."""

    def read(line: str) -> None:
        try:
            status = StackStatus.model_validate_json(line)
        except ValidationError:
            raise CliError(
                f"a worker's pod runs another version of konstruct; it wrote: {line[:200]}"
            ) from None
        source = f"namespace {cluster.namespace}, as one of its workers sees it"
        show(status.model_copy(update={"source": source}))

    from konstruct_cli.cluster.remote import RemoteStack  # noqa: PLC0415 - only for a cluster

    argv = ["konstruct", "status", "--watch", "--json", f"--every={every_s}", "--until-eof"]
    RemoteStack(cluster).follow(argv, read, every_s)


def _end_with_input() -> None:
    """Interrupt this process when its standard input ends, as it does with the connection to it."""
    while os.read(sys.stdin.fileno(), 65_536):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
