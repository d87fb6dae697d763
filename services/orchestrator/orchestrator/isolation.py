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

from orchestrator.job import AGAIN, Job

POLL_S = 0.1
"""Seconds between two looks at whether the worker shuts down."""

END_S = 5.0
"""Seconds that an idle process is given to end."""


class Outcome(Enum):
    """What came of trying a message."""

    DONE = auto()
    """It is finished."""

    AGAIN = auto()
    """It is still to be answered."""

    DIED = auto()
    """Its process died, or had to be ended."""


class Isolation:
    """A process that answers one message at a time, each in a fork of its own. A context manager."""

    def __enter__(self) -> Isolation:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.isolated"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,
        )
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

    def answer(self, job: Job, within_s: float, ending: Callable[[], bool]) -> Outcome:
        """Try `job` for at most `within_s` seconds; once `ending` is true, hand it back."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(job.model_dump_json().encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return Outcome.DIED
        deadline, told = time.monotonic() + within_s, False
        while not select.select([self._process.stdout], [], [], POLL_S)[0]:
            if time.monotonic() > deadline:
                self._signal(signal.SIGKILL)
            elif ending() and not told:
                self._signal(signal.SIGTERM)
                told = True
        said = self._process.stdout.readline().strip()
        return {b"0": Outcome.DONE, str(AGAIN).encode(): Outcome.AGAIN}.get(said, Outcome.DIED)

    def _signal(self, which: signal.Signals) -> None:
        """Send a signal to the process and its fork."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, which)
