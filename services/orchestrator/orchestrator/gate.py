"""Whether this worker may take messages: only while it is known to know what it should say. Pure.

Its Lease tells the operator that it is there. An operator that has not seen it renewed for as long as it
lasts may go on without it, and say that an edit is in effect everywhere. So a worker whose Lease may have
run out takes no message until the Lease is renewed *and* the agents were listed anew after that.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Gate:
    """Opens by a renewal and a list that came after it; closes by itself. Thread-safe."""

    def __init__(self, lease_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._lease_s = lease_s
        self._clock = clock
        self._lock = threading.Lock()
        self._expires: float | None = None
        self._caught_up = False
        self._shut = False

    def renewed(self, sent: float) -> bool:
        """Note a renewal that was sent at `sent`, by the gate's clock, and has succeeded.

        Returns whether the agents must be listed anew: at the first renewal, and whenever the gate had
        closed before the renewal was known to have succeeded.
        """
        with self._lock:
            lapsed = not self._valid()
            # What was sent earlier cannot have been seen by the operator any sooner.
            self._expires = sent + self._lease_s
            if lapsed:
                self._caught_up = False
            return lapsed

    def caught_up(self) -> None:
        """Note that a list of all agents, begun after the renewal that asked for it, is in effect."""
        with self._lock:
            self._caught_up = True

    def lapse(self) -> None:
        """Close until the next renewal and list."""
        with self._lock:
            self._expires = None

    def shut(self) -> None:
        """Close for good: the worker ends."""
        with self._lock:
            self._shut = True

    @property
    def is_open(self) -> bool:
        """Whether messages may be taken now."""
        with self._lock:
            return self._caught_up and self._valid() and not self._shut

    def _valid(self) -> bool:
        return self._expires is not None and self._clock() < self._expires
