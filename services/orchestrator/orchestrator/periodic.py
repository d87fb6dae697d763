"""Something done again and again in a thread of its own, until the worker ends."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)

STOP_S = 5.0
"""Longest that stopping waits for a call under way."""


class Periodic:
    """Calls `act` every `interval_s` seconds, the first time after one interval."""

    def __init__(self, name: str, interval_s: float, act: Callable[[], None]) -> None:
        """`name` is the thread's."""
        self.interval_s = interval_s
        self._act = act
        self._stopping = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """Call at once, or once more after the call under way. Returns at once."""
        self._wake.set()

    def stop(self) -> None:
        """End; a call under way may still end by itself."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=STOP_S)

    def _run(self) -> None:
        while True:
            self._wake.wait(self.interval_s)
            self._wake.clear()
            if self._stopping:
                return
            try:
                self._act()
            except Exception:
                # A thread that ended here would be missed only when what it does is needed.
                log.exception("%s failed, and is tried again", self._thread.name)
