"""Ports of a local stack."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ports:
    """Ports that are asked for; None has a free one chosen."""

    postgres: int | None = None
    """PostgreSQL."""

    redis: int | None = None
    """Redis."""

    model: int | None = None
    """The small model."""

    llm_pool: int | None = None
    """The llm-pool."""

    worker: int | None = None
    """The worker's /metrics and /healthz."""
