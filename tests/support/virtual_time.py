"""An event loop whose clock jumps to the next timer: hours of waiting take milliseconds."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class _Jumping(selectors.DefaultSelector):
    """Waits for nothing: the time that it was to wait has passed."""

    now = 0.0
    """Seconds that have passed."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready at once; else let the time pass."""
        if ready := super().select(0):
            return ready
        assert timeout is not None, "everything waits for something that never happens"
        self.now += max(timeout, 0.0)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop; `time` is virtual. For code that only waits for timers and for itself."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Return the virtual seconds since the loop was made."""
        return self._jumping.now


def run(loop: VirtualLoop, work: Coroutine[Any, Any, Result]) -> Result:
    """Run `work` to its end on `loop`, and close that."""
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(work)
