"""When the llm-pool may be asked again: backoff, a budget of retries, and a circuit while it is away.

The budget and the circuit are the worker's, shared by all its messages, so that an outage never multiplies
what the pool is asked. Nothing here knows HTTP; clock, sleep and chance are given.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Callable
from enum import StrEnum

RETRY_SHARE = 0.2
"""Retries that each message adds to the budget: one in five may be asked for twice, in the long run."""

RETRIES_PER_S = 2.0
"""Retries that each second adds, so that a worker with few messages is not left without any."""

LEAST_RESERVE = 10.0
"""Fewest retries that the budget can hold."""

FIRST_DELAY_S = 0.1
"""Longest delay before the first retry; it doubles with each."""

LONGEST_DELAY_S = 2.0
"""Longest delay before any retry, and between two probes."""


class Trouble(StrEnum):
    """What became of a request that may be sent again."""

    UNREACHABLE = "unreachable"
    """No connection could be made: the pool knows nothing of it."""

    LOST = "lost"
    """The connection ended before the answer had come: the pool may have worked on it."""

    UNAVAILABLE = "unavailable"
    """502 or 503 from something in the pool's place."""

    OVERLOADED = "overloaded"
    """429: the pool is there, and has too much to do."""

    @property
    def away(self) -> bool:
        """Whether it says that the pool is not there for anybody."""
        return self is not Trouble.OVERLOADED

    @property
    def costs(self) -> bool:
        """Whether asking again is more load than asking was: it had got through."""
        return self is not Trouble.UNREACHABLE


def backoff_s(attempt: int, chance: Callable[[], float] = random.random) -> float:
    """Return the seconds before retry number `attempt` (from 0): exponential, with full jitter."""
    return chance() * min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(attempt, 16))


class Budget:
    """Tokens, each for one retry: messages and time add some, and there are never more than `reserve`."""

    def __init__(self, reserve: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with all of the reserve: as many as a worker has under way can be cut off at once."""
        self._reserve = max(reserve, LEAST_RESERVE)
        self._clock = clock
        self._tokens = self._reserve
        self._counted = clock()

    def earn(self) -> None:
        """Add the share of a new message."""
        self._add(RETRY_SHARE)

    def take(self) -> float:
        """Take one and return 0; or return the seconds until time alone will have added one."""
        now = self._clock()
        self._add((now - self._counted) * RETRIES_PER_S)
        self._counted = now
        if self._tokens < 1:
            return (1 - self._tokens) / RETRIES_PER_S
        self._tokens -= 1
        return 0.0

    def _add(self, tokens: float) -> None:
        self._tokens = min(self._tokens + tokens, self._reserve)


class Circuit:
    """Open while the pool is away: then one probe at a time asks for it, and everybody else waits.

    For one event loop.
    """

    def __init__(
        self,
        probe: Callable[[], Awaitable[bool]],
        report: Callable[[float | None], None],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin closed.

        Args:
            probe: Asks whether the pool is there; must not raise.
            report: Told when it opens (None) and, after how many seconds, when it is closed again.
            sleep: Waits between two probes.
            clock: Measures how long it was open.
        """
        self._probe = probe
        self._report = report
        self._sleep = sleep
        self._clock = clock
        self._closed = asyncio.Event()
        self._closed.set()
        self._probing: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether the pool is taken to be away. Can be read from any thread."""
        return not self._closed.is_set()

    def open(self) -> None:
        """Note that the pool was found away."""
        if self._closed.is_set():
            self._closed.clear()
            self._report(None)
            self._probing = asyncio.create_task(self._until_it_is_back())

    async def wait(self) -> None:
        """Return when the pool is there, as far as is known."""
        await self._closed.wait()

    async def stop(self) -> None:
        """End the probing."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait([self._probing])

    async def _until_it_is_back(self) -> None:
        since = self._clock()
        for attempt in itertools.count():
            await self._sleep(backoff_s(attempt))
            if await self._probe():
                break
        self._closed.set()
        self._report(self._clock() - since)
