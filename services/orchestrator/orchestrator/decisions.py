"""What is told of parked messages, and what can be decided about them. Pure."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class ParkedMessage(BaseModel):
    """One parked message, without its text."""

    model_config = ConfigDict(frozen=True)

    message_id: str
    """Its id."""

    agent: str
    """The agent it is addressed to."""

    thread_id: str
    """Its conversation."""

    received_at: datetime
    """When it was accepted."""

    parked_at: datetime
    """When it was given up."""

    deaths: int
    """Processes that died while it was under way."""


class Parked(BaseModel):
    """A tenant's parked messages that nothing is decided about."""

    model_config = ConfigDict(frozen=True)

    messages: list[ParkedMessage]
    """The messages, the oldest first."""


class Decision(StrEnum):
    """What becomes of a parked message."""

    RETRY = "retry"
    """It is sent again, as a new message."""

    DROP = "drop"
    """It stays unanswered for good."""


class Decided(BaseModel):
    """What was decided about a parked message: once, and for good."""

    model_config = ConfigDict(frozen=True)

    message_id: str
    """Its id."""

    decision: Decision
    """The decision."""

    decided_at: datetime
    """When it was made."""

    retried_as: str | None
    """Id of the message that it was sent again as; null when it was dropped."""
