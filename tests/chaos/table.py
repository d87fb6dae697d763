"""Rewrites the table of docs/guarantees.md from what a run of the fault suite found.

python -m tests.chaos.table [RESULTS ...]
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tests.chaos.faults import FAULTS
from tests.chaos.round import Fault, Outcome
from tests.chaos.stage import ROOT

PAGE = ROOT / "docs" / "guarantees.md"
"""The page with the table."""

RESULTS = ROOT / ".cache" / "chaos" / "results.json"
"""What the newest run found."""

HEADS = (
    "fault",
    "lasts, s",
    "rounds",
    "messages",
    "apologies",
    "lost",
    "twice",
    "mixed",
    "rate back, s: median",
    "worst",
    "longest wait, s",
)
"""Columns of the table."""

_BLOCK = re.compile(r"(<!-- chaos -->\n).*(\n<!-- /chaos -->)", re.DOTALL)


def rows(page: str) -> list[str]:
    """Return the faults that the page's table has, in its order."""
    found = _BLOCK.search(page)
    lines = found[0].splitlines() if found else []
    return [line.strip("| ").split(" | ")[0] for line in lines if line.startswith("| ")][2:]


def table(outcomes: Iterable[Outcome], seeds: Sequence[str]) -> str:
    """Build the table of all rounds; a fault that was not played has a row without figures."""
    by_fault: dict[str, list[Outcome]] = {fault.id: [] for fault in FAULTS}
    for one in outcomes:
        by_fault[one.fault].append(one)
    lines = [f"| {' | '.join(HEADS)} |", f"|{' --- |' * len(HEADS)}"]
    lines += [_row(fault, by_fault[fault.id]) for fault in FAULTS]
    everything = [one for found in by_fault.values() for one in found]
    total = sum(one.accepted for one in everything)
    again = sum(one.asked_again for one in everything)
    played = f"{len(everything)} rounds, {total:,} messages; for {again} a provider was asked more than once"
    return "\n".join([*lines, "", f"{played}. Seed: {', '.join(dict.fromkeys(seeds))}."])


def _row(fault: Fault, found: list[Outcome]) -> str:
    if not found:
        return f"| {fault.says} | not played |{' |' * (len(HEADS) - 2)}"
    back = [one.back_s for one in found]
    cells = [
        fault.says,
        f"{fault.lasts_s:g}" if fault.lasts_s else "",
        len(found),
        sum(one.accepted for one in found),
        sum(one.apologised for one in found),
        sum(one.lost for one in found),
        sum(one.twice for one in found),
        sum(one.mixed for one in found),
        f"{statistics.median(back):.1f}",
        f"{max(back):.1f}",
        f"{max(one.longest_s for one in found):.1f}",
    ]
    return f"| {' | '.join(map(str, cells))} |"


def main(paths: list[str]) -> None:
    """Rewrite the page."""
    documents: list[dict[str, Any]] = [json.loads(Path(path).read_text()) for path in paths or [str(RESULTS)]]
    outcomes = [Outcome(**one) for document in documents for one in document["outcomes"]]
    made = table(outcomes, [document["seed"] for document in documents])
    page = PAGE.read_text()
    PAGE.write_text(_BLOCK.sub(lambda marks: f"{marks[1]}{made}{marks[2]}", page))
    sys.stdout.write(made + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
