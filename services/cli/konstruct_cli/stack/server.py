"""What every server of the stack has in common: launched, waited for, stopped."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from pathlib import Path
from typing import ClassVar, Self

import httpx

from konstruct_cli.stack.process import LOOPBACK, ManagedProcess, claim_port


class Server(ABC):
    """A server on a port of the loopback interface, in a child process."""

    NAME: ClassVar[str]
    """What people call it."""

    READY_DEADLINE_S: ClassVar[float]
    """Longest that it may take to be ready."""

    def __init__(self, *, port: int | None, log: Path, keep_open: Collection[int] = ()) -> None:
        self.port = port
        """TCP port; a free one is chosen at launch when None."""
        self.log = log
        """File that holds its output."""
        self._keep_open = tuple(keep_open)
        self._process: ManagedProcess | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def process(self) -> ManagedProcess:
        """Its process; only after the launch."""
        assert self._process is not None, f"{self.NAME} was not launched"
        return self._process

    @property
    def address(self) -> str:
        """Host and port; only after the launch."""
        return f"{LOOPBACK}:{self.port}"

    def start(self) -> Self:
        """Launch the server and wait until it is ready; it is stopped again if that fails.

        Raises:
            StackError: it does not start; the message shows why.
        """
        try:
            self.launch()
            self.wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def launch(self) -> None:
        """Start the process without waiting for it.

        Raises:
            StackError: it cannot be started, or its port is taken.
        """
        self.port = claim_port(self.NAME, self.port)
        self._process = self._make_process()
        self._process.start()

    def wait_ready(self) -> None:
        """Wait until the server is ready.

        Raises:
            StackError: it ended, or is not ready in time.
        """
        self.process.wait_ready(self._ready, self.READY_DEADLINE_S)

    def stop(self) -> None:
        """Stop the process; data stays."""
        if self._process is not None:
            self._process.stop()

    @abstractmethod
    def _make_process(self) -> ManagedProcess:
        """Prepare what the server needs and return its process, not started."""

    @abstractmethod
    def _ready(self) -> bool:
        """Look once whether the server is ready."""


def answers(url: str) -> bool:
    """Whether a GET of `url` succeeds."""
    try:
        # Without the system's proxies: this is ourselves.
        return httpx.get(url, timeout=2, trust_env=False).is_success
    except httpx.HTTPError:
        return False
