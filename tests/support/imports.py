"""Which modules a process imported, as Python itself tells of it (``PYTHONPROFILEIMPORTTIME``)."""

from __future__ import annotations

import re
from collections.abc import Collection

HEAVY = (
    *("litellm", "openai", "tiktoken", "tokenizers", "xllamacpp", "numpy"),
    *("fastapi", "starlette", "uvicorn", "kopf", "kubernetes", "aiohttp", "shared.kube"),
    *("alembic", "shared.migrate", "opentelemetry.exporter", "shared.tracing.export", "llm_pool"),
    *("konstruct_operator", "orchestrator.worker", "orchestrator.runtime", "orchestrator.tasks"),
)
"""What no command imports that talks to a stack or needs none."""

DATABASE = ("sqlalchemy", "psycopg", "shared.db")
"""What speaks to PostgreSQL."""

QUEUE = ("celery", "kombu", "billiard", "redis", "orchestrator.main")
"""What speaks to Redis."""

_LINE = re.compile(r"^import time:\s+\d+ \|\s+\d+ \|\s+([\w.]+)$", re.MULTILINE)


def imported(err: str) -> set[str]:
    """Return the modules that standard error tells of."""
    return set(_LINE.findall(err))


def refuse(found: Collection[str], packages: Collection[str]) -> None:
    """Fail if one of `packages`, or a module in one, was imported."""
    assert found, "nothing is told of what was imported"
    wrong = sorted(
        name for name in found if any(name == each or name.startswith(f"{each}.") for each in packages)
    )
    assert not wrong, f"imported, and not needed: {wrong[:10]}"
