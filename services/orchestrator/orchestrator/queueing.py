"""Putting a recorded message into the queue: the part of sending that needs Celery."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.main import app, hidden
from orchestrator.signing import Signing
from orchestrator.wire import TASK_NAME
from shared.config import load_settings
from shared.models import KonstructMessage


def queue(message: KonstructMessage, headers: Mapping[str, str]) -> None:
    """Queue a recorded message, signed, with the `headers` that its trace goes on by.

    Raises:
        OperationalError, RedisError, OSError: Redis does not answer (:data:`orchestrator.broker.AWAY`).
    """
    payload = message.model_dump(mode="json")
    signed = Signing.of(load_settings()).headers(payload)
    app.send_task(
        TASK_NAME,
        args=(payload,),
        argsrepr=hidden(payload),
        headers={**headers, **signed},
        # The reply is read from PostgreSQL. A result would be subscribed to here, for ever.
        ignore_result=True,
    )
