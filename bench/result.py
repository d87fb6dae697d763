"""What a benchmark found: a table for people, JSON for programs, both in ``bench/results``."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
WIDEST = 6
"""Figures of a row that fit into one line; more are written below each other."""


@dataclass(frozen=True)
class Row:
    """One thing that was measured."""

    name: str
    figures: dict[str, float]


def table(title: str, rows: list[Row], notes: list[str]) -> str:
    """Format rows of equal figures for people."""
    heads = list(rows[0].figures)
    named = {row.name: row.figures for row in rows}
    if len(heads) > WIDEST:
        heads, named = list(named), {head: {row.name: row.figures[head] for row in rows} for head in heads}
    width = max(map(len, named))
    lines = [title, " " * width + "".join(f"  {head:>18}" for head in heads)]
    lines += [
        f"{name:<{width}}" + "".join(f"  {figures[head]:>18.2f}" for head in heads)
        for name, figures in named.items()
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
