"""Waiting for something to come true: polling with a deadline, never a fixed sleep."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

Seen = TypeVar("Seen")


def eventually(look: Callable[[], Seen], *, within_s: float = 20.0, what: str = "it") -> Seen:
    """Return the first true value of `look`; fail if there is none within the deadline."""
    deadline = time.monotonic() + within_s
    while True:
        if seen := look():
            return seen
        assert time.monotonic() < deadline, f"{what} did not come true within {within_s:g} s; last: {seen!r}"
        time.sleep(0.02)


async def until(true: Callable[[], bool]) -> None:
    """Wait on the event loop until `true` says yes; fail if it does not within the deadline."""
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 - polls what has no event
            await asyncio.sleep(0.001)
