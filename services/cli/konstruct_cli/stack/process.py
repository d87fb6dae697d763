"""One child process: started, watched until it is ready, and ended for certain.

Every child leads a session of its own, so that Ctrl-C reaches only the parent, which ends its children in
order. On Linux a child also gets a signal when the parent dies without a chance to do so (SIGKILL). That
signal is tied to the thread that started the child: start children from a thread that outlives them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Self

LOOPBACK = "127.0.0.1"
"""Where every server of the stack listens."""

READY_POLL_S = 0.03
"""Pause between two looks at whether a server is ready."""

TAIL_LINES = 20
"""Lines of a log that an error shows."""

_LAUNCHER = Path(__file__).with_name("launch.py")
"""The script that becomes the server."""


class StackError(Exception):
    """Something of the local stack cannot run; the message says what and what to do."""


class PortTakenError(StackError):
    """A port that was asked for belongs to another process."""


class Account(NamedTuple):
    """A user and group to run as."""

    uid: int
    """User id."""

    gid: int
    """Group id."""


def unprivileged_account() -> Account | None:
    """Return the account for servers that refuse to run as root, or None when we are not root."""
    return Account(65534, 65534) if os.geteuid() == 0 else None


def claim_port(name: str, port: int | None) -> int:
    """Return `port` if it is free, or any free port of the loopback interface for None.

    Raises:
        PortTakenError: another process listens on `port`.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port or 0))
        except OSError as error:
            raise PortTakenError(
                f"{name} cannot have port {port} ({error.strerror}). End the process that uses it "
                f"(`ss -ltnp 'sport = :{port}'` names it), ask for another port, or for none to have a free "
                "one chosen."
            ) from None
        return int(probe.getsockname()[1])


class ManagedProcess:
    """A server run as a child process, with its output in a log file."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        account: Account | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        death_signal: signal.Signals = signal.SIGKILL,
        grace_s: float = 10.0,
        keep_open: Collection[int] = (),
    ) -> None:
        self.name = name
        """What people call it."""
        self.log = log
        """File that holds its output."""
        self._command = [str(part) for part in command]
        self._env = env
        self._account = account or Account(-1, -1)
        self._stop_signal = stop_signal
        self._death_signal = death_signal
        self._grace_s = grace_s
        self._keep_open = tuple(keep_open)
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Process id; only while it was started."""
        assert self._process is not None, f"{self.name} was not started"
        return self._process.pid

    def start(self) -> None:
        """Start the process; its output is added to the log."""
        launcher = [
            sys.executable,
            "-I",
            "-S",
            str(_LAUNCHER),
            str(os.getpid()),
            str(int(self._death_signal)),
        ]
        launcher += [str(self._account.uid), str(self._account.gid), "--"]
        with self.log.open("ab") as output:
            self._log_start = output.tell()
            self._process = subprocess.Popen(  # noqa: S603 - a list of arguments, no shell
                launcher + self._command,
                env=None if self._env is None else dict(self._env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=self._keep_open,
            )

    def exit_code(self) -> int | None:
        """Return how the process ended (negative: the signal), or None while it runs."""
        return None if self._process is None else self._process.poll()

    def wait_ready(self, ready: Callable[[], bool], deadline_s: float) -> None:
        """Poll until `ready` says yes.

        Raises:
            StackError: the process ended first, or the deadline passed; shows the log's tail.
        """
        deadline = time.monotonic() + deadline_s
        while not ready():
            code = self.exit_code()
            if code is not None:
                raise StackError(f"{self.name} {ending(code)} before it was ready. {self._tail_text()}")
            if time.monotonic() > deadline:
                raise StackError(f"{self.name} was not ready after {deadline_s:g} s. {self._tail_text()}")
            time.sleep(READY_POLL_S)

    def wait(self, deadline_s: float) -> None:
        """Wait for a process that is meant to end.

        Raises:
            StackError: it failed, or the deadline passed; shows the log's tail.
        """
        assert self._process is not None, f"{self.name} was not started"
        try:
            code = self._process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise StackError(f"{self.name} took over {deadline_s:g} s. {self._tail_text()}") from None
        if code != 0:
            raise StackError(f"{self.name} {ending(code)}. {self._tail_text()}")

    def stop(self) -> None:
        """Ask the process to end, and end it by force when it does not within its grace."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(self._stop_signal)
            try:
                self._process.wait(self._grace_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)  # what it may have started and left behind
        self._process = None

    def tail(self, lines: int = TAIL_LINES) -> str:
        """Return the last lines that this run wrote to the log."""
        try:
            with self.log.open("rb") as output:
                output.seek(self._log_start)
                text = output.read().decode(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def _tail_text(self) -> str:
        tail = self.tail()
        return f"The end of {self.log}:\n{tail}" if tail else f"It wrote nothing to {self.log}."


def ending(code: int) -> str:
    """Put an exit code in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
