"""Celery's consumer, but for two things: it survives losing Redis while messages are under way, and comes
back to it soon."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from celery.worker.consumer import Consumer

from orchestrator.envelopes import carefully

log = logging.getLogger(__name__)

RECONNECT_S = 1.0
"""Seconds before the first try to connect again; each of those that follow waits one more."""

LONGEST_RECONNECT_S = 4.0
"""Longest wait between two tries; Celery's own grows to half a minute, however soon Redis is back."""


class SurvivingConsumer(Consumer):
    """Neither gives back nor acknowledges over a connection that is lost.

    kombu would, on channels that have been taken apart by then, and end the worker with an
    ``AttributeError``. What was under way goes on. Its delivery is still among those that Redis holds, if
    Redis has kept its data, and is delivered again in time, which finds the reply; or the sweeper queues it
    again.
    """

    def create_task_handler(self, *args: Any, **options: Any) -> Any:
        """Make what takes deliveries; one that is none does not end the worker."""
        return carefully(super().create_task_handler(*args, **options))

    def ensure_connected(self, conn: Any) -> Any:
        """Connect, and try until it works."""
        conn.ensure_connection = partial(
            conn.ensure_connection,
            interval_start=RECONNECT_S,
            interval_step=RECONNECT_S,
            interval_max=LONGEST_RECONNECT_S,
        )
        return super().ensure_connected(conn)

    def on_connection_error_after_connected(self, exc: Exception) -> Any:
        """Clean up after a lost connection."""
        transport = self.connection.transport if self.connection else None
        for channel in getattr(transport, "channels", None) or ():
            channel.do_restore = False
            channel.basic_ack = channel.basic_reject = _let_go
        return super().on_connection_error_after_connected(exc)


def _let_go(delivery_tag: str, *_: Any, **__: Any) -> None:
    log.debug("delivery %s came over a connection that is lost: nothing to acknowledge", delivery_tag)
