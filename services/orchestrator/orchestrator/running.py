"""The messages under way in this worker, and handing them back when it shuts down.

With ``--pool=threads`` Celery neither ends tasks at shutdown nor gives their messages back: its warm
shutdown waits for them for ever. So each task registers its coroutine here; SIGTERM starts a drain, and
what has not finished by its end is cancelled, gives up its claim and returns its delivery to the queue.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator.errors import HandBackError

log = logging.getLogger(__name__)


class Running:
    """The coroutines of the tasks under way. Thread-safe."""

    def __init__(self, drain_s: float) -> None:
        self._drain_s = drain_s
        self._lock = threading.Lock()
        self._tasks: dict[asyncio.Task[object], asyncio.AbstractEventLoop] = {}
        self._held: set[int] = set()
        self._draining = threading.Event()
        self._idle = threading.Condition(self._lock)

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def draining(self) -> bool:
        """Whether the worker is shutting down."""
        return self._draining.is_set()

    @contextmanager
    def register(self) -> Iterator[None]:
        """Hold the running coroutine's task for the block; it may be cancelled from another thread.

        Raises:
            HandBackError: the drain is over, or the task was cancelled by it.
        """
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        if task is None:
            raise RuntimeError("register() belongs inside a coroutine")
        with self._lock:
            if self._draining.is_set():
                raise HandBackError("the worker is shutting down")
            self._tasks[task] = loop
        try:
            yield
        except asyncio.CancelledError:
            raise HandBackError("the worker is shutting down") from None
        finally:
            with self._idle:
                del self._tasks[task]
                self._idle.notify_all()

    @contextmanager
    def holding(self, seq: int) -> Iterator[None]:
        """Keep the claim on message number `seq` alive for the block, and not a moment longer."""
        with self._lock:
            self._held.add(seq)
        try:
            yield
        finally:
            with self._lock:
                self._held.discard(seq)

    def held(self) -> list[int]:
        """Return the numbers of the messages whose claims are to be kept alive."""
        with self._lock:
            return list(self._held)

    def drain(self) -> None:
        """Take nothing new; after the drain time cancel what is still under way. Returns at once."""
        if self._draining.is_set():
            return
        self._draining.set()
        threading.Thread(target=self._drain, name="drain", daemon=True).start()

    def _drain(self) -> None:
        with self._idle:
            self._idle.wait_for(lambda: not self._tasks, timeout=self._drain_s)
            left = dict(self._tasks)
            # Under the lock: a task cannot leave, and its loop close, between the look and the call.
            for task, loop in left.items():
                loop.call_soon_threadsafe(task.cancel)
        if left:
            log.warning("handing back %d messages that the drain time did not suffice for", len(left))
