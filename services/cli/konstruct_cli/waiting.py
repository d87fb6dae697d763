"""What waits to be answered, in words, and what of it is wrong. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from konstruct_cli.seen import BacklogStatus, StackStatus

SLOW_S = 5.0
"""Longest wait that is as it should be, in seconds: the objective of docs/slo.md for a message's start."""

STUCK_S = 120.0
"""Longest wait, in seconds, from which it is more than slow: `send` has given up by then."""

NEAR_LIMIT = 0.8
"""Share of its limit from which a tenant's line is nearly full: that of the alert on it."""


class Level(StrEnum):
    """How bad something is; the value is its colour."""

    GOOD = "green"
    """As it should be."""

    ODD = "yellow"
    """Worth a look."""

    BAD = "red"
    """Somebody waits for too long, or is refused."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """One thing that is not as it should be."""

    level: Level
    """How bad it is."""

    words: str
    """What it is, and what to do."""


def level_of(status: StackStatus) -> Level:
    """Say how bad it is, all in all."""
    found = {each.level for each in judge(status)}
    return next((level for level in (Level.BAD, Level.ODD) if level in found), Level.GOOD)


def facts(status: StackStatus) -> Iterator[str]:
    """Put what waits in words."""
    backlog = status.backlog
    if backlog is None:
        return
    if backlog.messages is None:
        yield f"backlog {backlog.problem}"
        return
    yield f"backlog {backlog.messages}"
    if backlog.longest_line:
        yield f"longest line {backlog.longest_line} of {backlog.line_limit}"
    if backlog.longest_wait_s is not None:
        yield f"longest wait {duration(backlog.longest_wait_s)}"


def judge(status: StackStatus) -> Iterator[Judgement]:
    """Say what of it is not as it should be."""
    backlog = status.backlog
    if backlog is None:
        return
    if backlog.problem is not None:
        yield Judgement(Level.ODD, f"what waits {backlog.problem}")
        return
    yield from _line(backlog)
    wait = backlog.longest_wait_s
    if wait is not None and wait >= STUCK_S:
        yield Judgement(
            Level.BAD,
            f"stuck: a message has waited for {duration(wait)}, longer than a sender waits for a reply",
        )
    elif wait is not None and wait > SLOW_S:
        yield Judgement(
            Level.ODD, f"slow: a message has waited for {duration(wait)}; it should be {SLOW_S:g} s at most"
        )
    if backlog.messages and not any(each.accepting and not each.draining for each in status.workers):
        yield Judgement(Level.BAD, "no worker takes messages, and some wait")


def _line(backlog: BacklogStatus) -> Iterator[Judgement]:
    line, limit = backlog.longest_line or 0, backlog.line_limit
    if line >= limit:
        yield Judgement(Level.BAD, f"full: {line} messages of one tenant wait, and its next is refused")
    elif line >= NEAR_LIMIT * limit:
        yield Judgement(
            Level.ODD,
            f"nearly full: {line} messages of one tenant wait; from {limit} on its next is refused",
        )


def duration(seconds: float) -> str:
    """Put a duration in words, of two units at most."""
    whole = int(seconds)
    if whole < 60:
        return f"{seconds:.1f} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"
