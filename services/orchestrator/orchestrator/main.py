"""The Celery application: ``celery -A orchestrator.main worker`` or, with checks, ``konstruct-worker``.

Redis is broker and result backend. The pool is threads: the work is waiting on HTTP, and what follows
the agents lives in the same process (ADR 0003 says what that changes in Celery's own promises).
"""

from __future__ import annotations

from typing import Any

from celery import Celery

from orchestrator.wire import QUEUE, TASK_NAME, redis_tls
from shared.config import Settings, load_settings

__all__ = ["QUEUE", "TASK_NAME", "app", "hidden", "redis_tls", "visibility_timeout_s"]

RESULT_EXPIRES_S = 60
"""Seconds that Redis keeps a task's result; PostgreSQL keeps the reply itself."""

ANSWER_S = 5
"""Seconds that Redis has to answer, or to be connected to, before the connection is given up."""

HEALTH_CHECK_S = 3
"""Seconds between two looks at whether a connection on which deliveries are waited for is alive."""


def visibility_timeout_s(settings: Settings) -> int:
    """Seconds after which Redis delivers an unfinished message again, though nobody gave it back.

    Above everything a living worker may take: a copy delivered earlier would find the lease and be put
    back for nothing.
    """
    return int(settings.message_deadline_s + settings.drain_s + settings.lease_s + 10)


def _configuration() -> dict[str, Any]:
    """Read the settings when the application is first used, not when this module is imported."""
    settings = load_settings()
    url = settings.redis_url.get_secret_value()
    tls = redis_tls(settings)
    transport = {
        "visibility_timeout": visibility_timeout_s(settings),
        # Look for messages of dead workers each second rather than at every tenth poll.
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
        "socket_timeout": ANSWER_S,
        "socket_connect_timeout": ANSWER_S,
        "socket_keepalive": True,
        # A queue that is waited at is answered each second: silence is noticed within seven.
        "health_check_interval": HEALTH_CHECK_S,
    }
    return {
        "broker_url": url,
        "result_backend": url,
        "broker_use_ssl": tls or None,
        "redis_backend_use_ssl": tls or None,
        "broker_transport_options": transport,
        "result_backend_transport_options": {"retry_policy": {"timeout": 5.0}},
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # Redis answers with an error while it cannot write to its disk; that passes.
        "broker_channel_error_retry": True,
        "worker_consumer": "orchestrator.consumer:SurvivingConsumer",
        "redis_socket_timeout": ANSWER_S,
        "redis_socket_connect_timeout": ANSWER_S,
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        "task_default_queue": QUEUE,
        "task_acks_late": True,
        "worker_prefetch_multiplier": 1,
        "result_expires": RESULT_EXPIRES_S,
        "task_publish_retry_policy": {
            "max_retries": 3,
            "interval_start": 0.1,
            "interval_step": 0.3,
            "interval_max": 1.0,
        },
        "worker_hijack_root_logger": False,
    }


app = Celery("orchestrator", include=["orchestrator.tasks", "orchestrator.control"])
app.add_defaults(_configuration)


def hidden(payload: Any) -> str:
    """Return what monitoring may show of a delivery's arguments: the message's id, never its text."""
    return f"({payload.get('message_id')!r},)" if isinstance(payload, dict) else "(…)"
