"""The orchestrator: takes messages, builds prompts, asks the llm-pool, records what happened.

For senders, ``orchestrator.submit`` is the one entry point.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.sending import Receipt, submit

__all__ = ["Receipt", "submit"]


def __getattr__(name: str) -> object:
    """Import on first use: a worker's Celery application must not be made by importing the package."""
    if name in __all__:
        from orchestrator import sending  # noqa: PLC0415 - the point of this function

        return getattr(sending, name)
    raise AttributeError(f"module {__name__} has no attribute {name}")
