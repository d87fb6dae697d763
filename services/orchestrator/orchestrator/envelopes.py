"""What is in the queue and is no delivery: thrown away. kombu and Celery would end the worker over it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from kombu.transport.redis import Channel, Transport

log = logging.getLogger(__name__)

GARBAGE = (ValueError, TypeError, LookupError, AttributeError, RecursionError)
"""What parsing raises: nothing of a connection's, which is lost and not garbage."""


class CarefulChannel(Channel):
    """Reads the queue, and survives what it finds there."""

    def _brpop_read(self, **options: Any) -> Any:
        """Read one delivery; what is none is taken from the queue all the same."""
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]  # the stubs do not know it
        except GARBAGE as error:
            _tell(error)
            return True


def be_careful() -> None:
    """Let this process read the queue carefully."""
    Transport.Channel = CarefulChannel


def carefully(handle: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Make of what handles deliveries one that throws away what it cannot take apart."""

    def take(delivery: Any) -> Any:
        try:
            return handle(delivery)
        except GARBAGE as error:
            _tell(error)
            # Nobody else could take it apart either. A message that was recorded is found again.
            delivery.reject_log_error(log, GARBAGE)
            return None

    return take


def _tell(error: Exception) -> None:
    """Log that something was thrown away, without its text, which may quote it."""
    log.warning("something in the queue is no delivery, and was thrown away: %s", type(error).__name__)
