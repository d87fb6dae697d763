"""Telling for certain whether any process of a family is left.

A file's lock belongs to every process that inherited its descriptor: it is free when the last one is gone,
whatever they are called, whoever their parents are, and however they renamed themselves.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path


class Lifeline:
    """A locked file whose descriptor is given to processes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def let_go(self) -> None:
        """Close our own descriptor; only the processes hold the lock now."""
        os.close(self.descriptor)


def free(path: Path) -> bool:
    """Whether nobody holds the lock on `path`."""
    with path.open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def wait_free(path: Path, deadline_s: float = 10.0) -> bool:
    """Poll until nobody holds the lock on `path`, or the deadline passes."""
    deadline = time.monotonic() + deadline_s
    while not free(path):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
