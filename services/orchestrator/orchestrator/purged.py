"""What is told of a deletion (:mod:`orchestrator.retention`). Pure."""

from __future__ import annotations

from datetime import timedelta

from pydantic import BaseModel, ConfigDict

LEAST = timedelta(hours=1)
"""How long everything is kept, whatever is asked for; the function ``konstruct_purge`` enforces it."""


class Purged(BaseModel):
    """What was deleted, and what was not."""

    model_config = ConfigDict(frozen=True)

    messages: int
    """Finished messages that were deleted, with their replies."""

    revisions: int
    """Documents of agents that were deleted: nothing spoke from them any more."""

    unfinished: int | None = None
    """Messages of the tenant that are still to be answered, and stay; None: no tenant was named."""

    finished: int | None = None
    """Finished messages of the tenant that are left, being too new; None: no tenant was named."""
