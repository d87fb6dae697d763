"""The reply: what is told about a message, returned by the task and stored. Pure."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from shared.contract import FallbackReason, Usage


class MessageStatus(StrEnum):
    """Where a message stands; all but ``received`` are final."""

    RECEIVED = "received"
    """Recorded and not finished."""

    ANSWERED = "answered"
    """A model wrote the reply."""

    APOLOGISED = "apologised"
    """No model could; the reply is a polite sentence."""

    FAILED = "failed"
    """The message cannot be answered as it stands; ``reason`` says why."""


class Reason(StrEnum):
    """Why a message was not answered."""

    AGENT_UNKNOWN = "agent_unknown"
    """The tenant has no agent of that name."""

    AGENT_SUSPENDED = "agent_suspended"
    """The agent is suspended."""

    MESSAGE_INVALID = "message_invalid"
    """The message does not have the form of a KonstructMessage."""

    MESSAGE_CONFLICT = "message_conflict"
    """Another message was recorded under the same id."""

    PARKED = "parked"
    """Workers died while the message was under way, and so did a process that had nothing else to do."""

    DROPPED = "dropped"
    """Somebody gave it up by hand (docs/data.md); before migration 0010, also with ``parked drop``."""

    FALLBACK_REFUSED = "fallback_refused"
    """The agent's group failed and the agent forbids another."""

    PROVIDERS_FAILED = "providers_failed"
    """Every model that could be asked failed."""

    DEADLINE_EXCEEDED = "deadline_exceeded"
    """The message's time was up."""

    POOL_UNREACHABLE = "pool_unreachable"
    """No connection to the llm-pool, or it was cut."""

    POOL_OVERLOADED = "pool_overloaded"
    """The llm-pool had too many requests in flight."""

    POOL_UNAUTHORIZED = "pool_unauthorized"
    """The llm-pool refused the worker's token."""

    GROUP_UNKNOWN = "group_unknown"
    """The llm-pool has no model group of that name."""

    REQUEST_REFUSED = "request_refused"
    """The llm-pool found the request malformed or too large."""

    POOL_ERROR = "pool_error"
    """The llm-pool failed, or its answer made no sense."""

    INTERNAL_ERROR = "internal_error"
    """A fault of the worker itself."""


class Reply(BaseModel):
    """The truth about one message: what ``handle_message`` returns and stores."""

    model_config = ConfigDict(frozen=True)

    message_id: str
    """Id of the message."""

    thread_id: str
    """Its conversation."""

    tenant_id: str
    """Its tenant."""

    agent: str
    """The agent it was addressed to."""

    revision: str | None = None
    """Revision of the agent that the reply spoke from; null when none spoke."""

    text: str
    """What the sender is told."""

    status: MessageStatus
    """How the message ended."""

    reason: Reason | None = None
    """Why it was not answered; null when it was."""

    requested_group: str | None = None
    """Model group the agent asks for."""

    served_group: str | None = None
    """Model group that answered."""

    model: str | None = None
    """Model that answered, as its provider names it."""

    degraded: bool = False
    """Whether another group answered than the one asked for."""

    fallback_reason: FallbackReason | None = None
    """Why the requested group did not answer."""

    usage: Usage | None = None
    """Tokens of the answering call."""

    prompt_sha256: str | None = None
    """SHA-256 of the system prompt with its clause, without history or the sender's text."""

    transparency_clause: str | None = None
    """Version of the AI transparency clause in the prompt."""
