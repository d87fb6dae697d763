"""Has Celery consume the queue exactly while the worker accepts messages.

A worker that only put deliveries back would take each from a worker that could answer it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from orchestrator.main import app
from orchestrator.wire import QUEUE

log = logging.getLogger(__name__)

LOOK_S = 0.1
"""Seconds between two looks at whether messages are accepted."""

ASK_AGAIN_S = 1.0
"""Seconds that Celery's own loop is given to follow before it is asked again (it may be reconnecting)."""


class Tap:
    """Turns the worker's consumption of the queue on and off."""

    def __init__(self, accepting: Callable[[], bool]) -> None:
        self._accepting = accepting
        self._stop = threading.Event()
        self._started = False

    @property
    def on(self) -> bool:
        """Whether Celery was told to consume the queue, and has not been told to stop."""
        return self._started and not self._stop.is_set() and QUEUE in app.amqp.queues.consume_from

    @property
    def started(self) -> bool:
        """Whether Celery's consumer was ever connected to Redis."""
        return self._started

    def prepare(self) -> None:
        """Begin without consuming when nothing is accepted yet; before Celery connects."""
        if not self._accepting():
            app.amqp.queues.deselect([QUEUE])

    def start(self, consumer: Any) -> None:
        """Follow from now on, on Celery's `consumer`."""
        self._started = True
        threading.Thread(target=self._run, args=(consumer,), name="tap", daemon=True).start()

    def stop(self) -> None:
        """Leave the consumer alone: the worker shuts down. Returns at once."""
        self._stop.set()

    def _run(self, consumer: Any) -> None:
        asked = 0.0
        while not self._stop.wait(LOOK_S):
            wanted = self._accepting()
            if wanted == (QUEUE in app.amqp.queues.consume_from):
                asked = 0.0
            elif time.monotonic() - asked > ASK_AGAIN_S:
                asked = time.monotonic()
                # The consumer belongs to Celery's thread; this is how its own remote control asks it.
                consumer.call_soon(_turn, consumer, wanted)


def _turn(consumer: Any, wanted: bool) -> None:  # noqa: FBT001 - called by position
    """Runs in Celery's thread."""
    try:
        if wanted:
            consumer.add_task_queue(QUEUE)
        else:
            consumer.cancel_task_queue(QUEUE)
    except Exception as error:  # noqa: BLE001 - it would end Celery's loop
        # The queue is selected or not by now; Celery acts on that when it has connected again.
        log.warning("Redis is away while consumption is turned %s (%s)", "on" if wanted else "off", error)
