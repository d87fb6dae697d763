"""What a benchmark found: a table for people, JSON for programs, both in ``bench/results``."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Row:
    """One thing that was measured."""

    name: str
    figures: dict[str, float]


def table(title: str, rows: list[Row], notes: list[str]) -> str:
    """Format rows of equal figures for people."""
    heads = list(rows[0].figures)
    width = max(len(row.name) for row in rows)
    lines = [title, " " * width + "".join(f"  {head:>16}" for head in heads)]
    lines += [
        f"{row.name:<{width}}" + "".join(f"  {row.figures[head]:>16.2f}" for head in heads) for row in rows
    ]
    return "\n".join([*lines, *notes])


def write(name: str, title: str, rows: list[Row], notes: list[str] | None = None, **more: object) -> None:
    """Print the table, and keep it and the figures."""
    RESULTS.mkdir(exist_ok=True)
    text = table(title, rows, notes or [])
    print(text, flush=True)
    (RESULTS / f"{name}.txt").write_text(text + "\n")
    machine = {"python": platform.python_version(), "cpus": os.cpu_count()}
    document = {**machine, "rows": [asdict(row) for row in rows], "notes": notes or [], **more}
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n")
