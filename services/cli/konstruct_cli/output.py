"""Writing: data to standard output, talk to standard error.

Text that models, people or manifests wrote is never read as markup, and its control characters never reach
a terminal. ``NO_COLOR`` and terminals are rich's business, which is imported by what lays something out: an
error in one line needs none of it.
"""
# ruff: noqa: PLC0415 - see above

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from orchestrator.evidence import Evidence
    from shared.reply import Reply

_CONTROLS = {code: None for code in (*range(0x20), *range(0x7F, 0xA0)) if code not in (0x09, 0x0A)}
"""Control characters, but for tab and newline."""

STYLES = {"red": "31", "yellow": "33", "dim": "2"}
"""Styles of a line of talk, and the codes by which a terminal shows them (ECMA-48, SGR)."""

PLAIN_WIDTH = 120
"""Columns of tables where there is no terminal to ask (and ``COLUMNS`` is not set)."""


def talk() -> Console:
    """Return a console on standard error."""
    return _console(sys.stderr)


def data() -> Console:
    """Return a console on standard output, for tables."""
    return _console(sys.stdout)


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    unknown = not stream.isatty() and "COLUMNS" not in os.environ
    return Console(file=stream, highlight=False, soft_wrap=True, width=PLAIN_WIDTH if unknown else None)


def say(text: str = "", style: str = "") -> None:
    """Tell the user something that is no data, in one of :data:`STYLES` on a terminal."""
    shown = printable(text)
    if style and _shows_colours(sys.stderr):
        shown = f"\x1b[{STYLES[style]}m{shown}\x1b[0m"
    sys.stderr.write(shown + "\n")
    sys.stderr.flush()


def _shows_colours(stream: TextIO) -> bool:
    """Whether a stream is a terminal that shows colours to somebody who wants them (https://no-color.org)."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM", "").lower() in ("dumb", "unknown")
    return stream.isatty() and not plain


def emit(text: str) -> None:
    """Write data as it is, but for control characters."""
    sys.stdout.write(printable(text) + "\n")
    sys.stdout.flush()


def emit_json(data: BaseModel | dict[str, Any]) -> None:
    """Write data as one line of JSON."""
    plain = data if isinstance(data, dict) else data.model_dump(mode="json")
    sys.stdout.write(json.dumps(plain, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def printable(text: str) -> str:
    """Drop control characters, which could move a terminal's cursor or change its title."""
    return text.translate(_CONTROLS)


def envelope(reply: Reply) -> Table:
    """Lay out the truth about a reply: who answered, from which revision and prompt."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column()
    for name, value in envelope_lines(reply):
        grid.add_row(Text(f"  {name}"), Text(printable(value)))
    return grid


def summary(reply: Reply) -> Text:
    """Put the truth about a reply in one line, for conversations."""
    from rich.text import Text

    who = f"{reply.model} ({reply.served_group})" if reply.model else reply.status.value
    parts = [who, str(reply.reason or "")]
    if reply.fallback_reason is not None:
        parts.append(f"{reply.requested_group} could not: {reply.fallback_reason}")
    parts.append(f"revision {reply.revision}" if reply.revision else "")
    return Text(printable("  " + ", ".join(part for part in parts if part)), style="dim")


def asked_for(told: Reply | Evidence) -> str:
    """Say which group was asked for, and why it did not answer, if it did not."""
    why = "" if told.fallback_reason is None else f", which could not answer: {told.fallback_reason}"
    return f"{told.requested_group}{why}" + ("; degraded" if told.degraded else "")


def envelope_lines(reply: Reply) -> list[tuple[str, str]]:
    """Put a reply's envelope in words, as names and values."""
    lines = [("status", reply.status.value + (f" ({reply.reason.value})" if reply.reason else ""))]
    if reply.model is not None:
        lines.append(("answered by", f"{reply.model} (group {reply.served_group})"))
    if reply.requested_group is not None:
        lines.append(("asked for", asked_for(reply)))
    if reply.revision is not None:
        lines.append(("revision", reply.revision))
    if reply.prompt_sha256 is not None:
        lines.append(("prompt", f"sha256 {reply.prompt_sha256[:16]}…, clause {reply.transparency_clause}"))
    if reply.usage is not None:
        lines.append(("tokens", f"{reply.usage.prompt_tokens} read, {reply.usage.completion_tokens} written"))
    lines += [("message", reply.message_id), ("thread", reply.thread_id)]
    return lines
