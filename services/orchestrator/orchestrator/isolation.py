"""Starting, feeding and ending the process that answers suspected messages (:mod:`orchestrator.isolated`)."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from enum import Enum, auto
from types import TracebackType

from orchestrator.job import AGAIN, RAISED, READY, Job

POLL_S = 0.1
"""Seconds between two looks at whether the worker shuts down."""

START_S = 60.0
"""Seconds that a process is given to be ready: it imports everything, on a machine that may be busy."""

END_S = 5.0
"""Seconds that an idle process is given to end."""

_MOST_READ = 4096
"""Most bytes that one reading takes; what is said is a few."""


class CannotStartError(Exception):
    """No process is to be had for the time being; that says nothing about any message."""


class Outcome(Enum):
    """What came of trying a message."""

    DONE = auto()
    """It is finished, by what its process says."""

    AGAIN = auto()
    """It is still to be answered: PostgreSQL is away, or the worker shuts down. Not a fault."""

    RAISED = auto()
    """Its process stumbled over it, and lived."""

    DIED = auto()
    """Its process died, or had to be ended."""


_OUTCOMES = {b"0": Outcome.DONE, str(AGAIN).encode(): Outcome.AGAIN, str(RAISED).encode(): Outcome.RAISED}


class Isolation:
    """A process that answers one message at a time, each in a fork of its own. A context manager."""

    def __enter__(self) -> Isolation:
        """Start the process, and wait until it is ready.

        Raises:
            CannotStartError: it cannot be started, or is not ready in time.
        """
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "orchestrator.isolated"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                process_group=0,
            )
        except OSError as error:
            raise CannotStartError(f"no process can be started: {error.strerror}") from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # Written to only as far as it reads, so that one that is stuck holds nobody up.
        os.set_blocking(self._process.stdin.fileno(), False)
        if self._exchange(b"", START_S, lambda: False) != READY.encode():
            self.__exit__(None, None, None)
            raise CannotStartError("a process was started and did not get ready; it may have told why above")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):  # it died with something unread
            self._process.stdin.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._process.wait()
        self._process.stdout.close()

    @property
    def pid(self) -> int:
        """Its process id, which is its process group's too."""
        return self._process.pid

    def answer(self, job: Job, within_s: float, ending: Callable[[], bool]) -> Outcome:
        """Try `job` for at most `within_s` seconds; once `ending` is true, hand it back."""
        said = self._exchange(job.model_dump_json().encode() + b"\n", within_s, ending)
        return _OUTCOMES.get(said, Outcome.DIED)

    def _exchange(self, line: bytes, within_s: float, ending: Callable[[], bool]) -> bytes:
        """Write `line` and return the line that comes back; nothing when the process is dead."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        into, out_of = self._process.stdin.fileno(), self._process.stdout.fileno()
        poll = select.poll()
        poll.register(out_of, select.POLLIN)
        if line:
            poll.register(into, select.POLLOUT)
        deadline, told, said = time.monotonic() + within_s, False, b""
        while not said.endswith(b"\n"):
            ready = dict(poll.poll(POLL_S * 1000))
            if out_of in ready:
                read = os.read(out_of, _MOST_READ)
                if not read:
                    return b""
                said += read
            if into in ready:
                try:
                    line = line[os.write(into, line) :]
                except BrokenPipeError:
                    return b""
                if not line:
                    poll.unregister(into)
            if time.monotonic() > deadline:
                self._signal(signal.SIGKILL)
            elif ending() and not told:
                self._signal(signal.SIGTERM)
                told = True
        return said.strip()

    def _signal(self, which: signal.Signals) -> None:
        """Send a signal to the process and its fork."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, which)
