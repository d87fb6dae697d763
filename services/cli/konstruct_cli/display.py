"""Showing a stack start: one line for every part that is ready, a spinner for the one that is waited for."""

from __future__ import annotations

from typing import Self

from rich.console import Console
from rich.status import Status
from rich.text import Text


class StartDisplay:
    """Prints how a start goes on. The spinner shows on terminals only."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._spinner: Status | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def waiting(self, part: str) -> None:
        """Turn a spinner while `part` is waited for."""
        self._stop()
        self._spinner = self._console.status(Text(f"waiting for {part}"))
        self._spinner.start()

    def ready(self, part: str, detail: str, seconds: float) -> None:
        """Print that `part` is ready."""
        self._stop()
        line = Text("  ok ", style="green")
        line.append(f"{part:<16}", style="default").append(f"{seconds:5.1f} s  {detail}", style="dim")
        self._console.print(line)

    def _stop(self) -> None:
        if self._spinner is not None:
            self._spinner.stop()
            self._spinner = None
