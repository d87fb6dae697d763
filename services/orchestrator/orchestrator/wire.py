"""What senders and workers must agree on to meet in Redis. Imports no Celery: a sender may do without."""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import urlsplit

from shared.config import Settings

TASK_NAME = "orchestrator.tasks.handle_message"
"""Name of the task; pinned, for senders that know nothing but the name."""

QUEUE = "konstruct.messages"
"""Queue of messages to answer."""


def redis_tls(settings: Settings) -> dict[str, Any]:
    """Return how clients of Redis encrypt: nothing where the URL does not ask for it, or says how itself."""
    url = urlsplit(settings.redis_url.get_secret_value())
    if url.scheme != "rediss" or "ssl_" in url.query:
        return {}
    files = {
        "ssl_ca_certs": settings.redis_ca_file,
        "ssl_certfile": settings.redis_cert_file,
        "ssl_keyfile": settings.redis_key_file,
    }
    return {
        "ssl_cert_reqs": ssl.CERT_REQUIRED,
        "ssl_check_hostname": True,
        **{name: str(file) for name, file in files.items() if file is not None},
    }
