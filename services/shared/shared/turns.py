"""Keys that wait, and the groups of keys take turns: whoever has many keeps nobody else waiting."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class Turns(Generic[Key]):
    """A line of keys in which the groups take turns, and none has more than `most` keys under way."""

    def __init__(self, group_of: Callable[[Key], Hashable], most: int) -> None:
        """`group_of` is asked when a key is added."""
        self._group_of = group_of
        self._most = most
        self._lines: OrderedDict[Hashable, deque[Key]] = OrderedDict()
        self._waiting: dict[Key, Hashable] = {}
        self._taken: dict[Key, Hashable] = {}
        self._busy: Counter[Hashable] = Counter()
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, key: Key) -> bool:
        return key in self._waiting

    def waiting(self, group: Hashable) -> int:
        """Count the keys of `group` that wait."""
        return len(self._lines.get(group, ()))

    def add(self, key: Key) -> None:
        """Have `key` wait for its turn; nothing changes when it does already."""
        if key in self._waiting:
            return
        group = self._waiting[key] = self._group_of(key)
        self._lines.setdefault(group, deque()).append(key)
        self._changed.set()

    async def take(self) -> Key:
        """Wait for a key and take it: it is under way until ``done``, and must not be added before."""
        while (key := self._next()) is None:
            self._changed.clear()
            await self._changed.wait()
        return key

    def done(self, key: Key) -> None:
        """Note that a key that was taken is under way no more."""
        group = self._taken.pop(key)
        self._busy[group] -= 1
        if not self._busy[group]:
            del self._busy[group]
        self._changed.set()

    def _next(self) -> Key | None:
        free = (group for group in self._lines if self._busy[group] < self._most)
        group = next(free, None)
        if group is None:
            return None
        line = self._lines[group]
        key = line.popleft()
        if line:
            self._lines.move_to_end(group)
        else:
            del self._lines[group]
        del self._waiting[key]
        self._taken[key] = group
        self._busy[group] += 1
        return key
