"""``python -m orchestrator`` is ``konstruct-worker``."""

from __future__ import annotations

from orchestrator.worker import run

run()
