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
        self._interval_s = interval_s
        self._act = act
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; a call under way may still end by itself."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=STOP_S)

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            try:
                self._act()
            except Exception:
                # A thread that ended here would be missed only when what it does is needed.
                log.exception("%s failed, and is tried again", self._thread.name)
