"""A queue of keys to work on: no key twice at once, no key forgotten, bounded retries.

As in controller-runtime: adding a key that waits does nothing, adding one that is being worked on brings it
back when that is done. How soon and how often a failure is tried again is the exception's business.

Unlike there, the groups of keys (tenants) take turns: thousands of one hold up nobody else.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from shared.kube.errors import KubeError
from shared.turns import Turns

log = logging.getLogger(__name__)

Key = TypeVar("Key", bound=Hashable)

CONCURRENCY = 16
"""Keys worked on at once."""

MOST_OF_ONE = 12
"""Keys of one group worked on at once: whatever holds them up, there is room for others."""

RESYNC_S = 600.0
"""Seconds after which a key that was given up is tried again without a change."""


class WorkQueue(Generic[Key]):
    """Calls `work` for each key that is added, and `give_up` when a key has failed for good."""

    def __init__(
        self,
        work: Callable[[Key], Awaitable[None]],
        give_up: Callable[[Key, Exception], Awaitable[None]],
        retried: Callable[[], None],
        group_of: Callable[[Key], Hashable],
    ) -> None:
        self._work = work
        self._give_up = give_up
        self._retried = retried
        self._waiting = Turns(group_of, MOST_OF_ONE)
        self._again: set[Key] = set()
        self._running: dict[Key, float] = {}
        self._tried: dict[Key, int] = {}
        self._later: dict[Key, asyncio.TimerHandle] = {}

    def add(self, key: Key) -> None:
        """Have `key` worked on as soon as there is room."""
        later = self._later.pop(key, None)
        if later is not None:
            later.cancel()
        if key in self._running:
            self._again.add(key)
        else:
            self._waiting.add(key)

    def add_later(self, key: Key, delay_s: float) -> None:
        """Have `key` worked on after `delay_s`, unless it is added before."""
        if key in self._later or key in self._waiting or key in self._again:
            return
        self._later[key] = asyncio.get_running_loop().call_later(delay_s, self.add, key)

    def forget(self, key: Key) -> None:
        """Drop what is planned for `key`."""
        later = self._later.pop(key, None)
        if later is not None:
            later.cancel()
        self._tried.pop(key, None)

    @property
    def depth(self) -> int:
        """Keys that wait for their turn."""
        return len(self._waiting)

    def longest_s(self) -> float:
        """Seconds that the oldest call of `work` has been running."""
        return time.monotonic() - min(self._running.values()) if self._running else 0.0

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(CONCURRENCY):
                group.create_task(self._serve(), name=f"reconcile-{number}")

    async def _serve(self) -> None:
        while True:
            key = await self._waiting.take()
            self._running[key] = time.monotonic()
            try:
                await self._once(key)
            finally:
                del self._running[key]
                self._waiting.done(key)
                if key in self._again:
                    self._again.discard(key)
                    self.add(key)

    async def _once(self, key: Key) -> None:
        try:
            await self._work(key)
            self._tried.pop(key, None)
        except Exception as error:
            tried = self._tried[key] = self._tried.get(key, 0) + 1
            delay = error.delay_s(tried) if isinstance(error, KubeError) else None
            if delay is not None:
                log.warning("%s: %s; again in %.1f s", key, error, delay)
                self._retried()
                self.add_later(key, delay)
                return
            if isinstance(error, KubeError):
                log.error("%s: given up after %d tries: %s", key, tried, error)  # noqa: TRY400
            else:
                log.exception("%s: given up", key)
            self._tried.pop(key, None)
            try:
                await self._give_up(key, error)
            except Exception:  # one key's fault must not end the work on all others
                log.exception("%s: it cannot be told", key)
            self.add_later(key, RESYNC_S)
