"""Ending in order: the first signal interrupts, later ones wait until everything is stopped."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """The command was asked to end."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise :class:`Interrupted` in the block at SIGINT, SIGTERM or SIGHUP, once.

    A second Ctrl-C of an impatient user would cut the stopping short.
    """
    asked = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup sets it
        asked.append(signal.SIGHUP)

    def interrupt(number: int, _frame: FrameType | None) -> None:
        for each in asked:
            signal.signal(each, lambda *_: None)
        raise Interrupted(signal.Signals(number).name)

    before = {each: signal.signal(each, interrupt) for each in asked}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
