"""The demo's account of itself: steps, how long each took, what failed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

from konstruct_cli.errors import CliError
from konstruct_cli.output import envelope, printable
from konstruct_cli.stack.process import StackError
from shared.reply import Reply

Shown = TypeVar("Shown")
"""What a step hands on to later ones."""


class StepFailedError(Exception):
    """A step did not show what it is there to show; the message says what was seen instead."""


class Step(BaseModel):
    """One step of the demo."""

    name: str
    """What it shows."""

    result: str = ""
    """What was seen, in a few words."""

    ok: bool = False
    """Whether that is what should have been seen."""

    seconds: float = 0.0
    """Time it took."""


class Report:
    """Prints steps as they happen and keeps them for the table at the end."""

    def __init__(self, console: Console) -> None:
        self.console = console
        """Where it prints."""
        self.steps: list[Step] = []
        """Steps so far."""

    @property
    def failed(self) -> list[Step]:
        """Steps that failed."""
        return [step for step in self.steps if not step.ok]

    def run(self, name: str, show: Callable[[Step], Shown]) -> Shown | None:
        """Run one step; `show` sets its result. A failure is recorded and goes no further: None."""
        step = Step(name=name)
        self.console.print()
        self.console.print(Text(f"{len(self.steps) + 1}. {name}", style="bold"))
        began = time.monotonic()
        try:
            shown = show(step)
        except (StepFailedError, CliError, StackError) as error:
            step.result = str(error)
            self.line(f"FAILED: {error}", style="bold red")
            return None
        else:
            step.ok = True
            return shown
        finally:
            step.seconds = time.monotonic() - began
            self.steps.append(step)

    def line(self, text: str, style: str = "") -> None:
        """Print one line of detail."""
        self.console.print(Text("   " + printable(text).replace("\n", "\n   "), style=style))

    def reply(self, question: str, reply: Reply) -> None:
        """Print a question, its reply and the reply's envelope."""
        self.line(f"{reply.tenant_id} asks {reply.agent}: {question}", style="cyan")
        self.line(f"{reply.agent}: {reply.text}")
        self.console.print(envelope(reply))

    def table(self) -> None:
        """Print the table of all steps."""
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        table.add_column("step")
        table.add_column("result")
        table.add_column("seconds", justify="right")
        for step in self.steps:
            result = step.result if step.ok else f"FAILED: {step.result.splitlines()[0]}"
            style = "green" if step.ok else "bold red"
            table.add_row(Text(step.name), Text(printable(result), style=style), f"{step.seconds:.1f}")
        total = sum(step.seconds for step in self.steps)
        table.add_row(Text("all", style="bold"), "", Text(f"{total:.1f}", style="bold"))
        self.console.print()
        self.console.print(table)
