"""The contract of the llm-pool's ``POST /complete``: request, envelope and problem documents.

Pure: imported by the pool, which serves it, and by the orchestrator, which calls it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from shared.limits import MAX_REPLY_TOKENS, MAX_TIMEOUT_S
from shared.names import AgentName, GroupName, TenantId

PROBLEM_MEDIA_TYPE = "application/problem+json"
"""Media type of every error answer (RFC 9457)."""

MESSAGE_ID_HEADER = "x-konstruct-message-id"
"""Header of a request: the message that is answered; for the pool's log and traces, and optional."""

REVISION_HEADER = "x-konstruct-revision"
"""Header of a request: the revision of the agent that asks; for the pool's log and traces, and optional."""

Role = Literal["system", "user", "assistant"]
"""Who speaks a chat message."""


class FallbackPolicy(StrEnum):
    """What the pool may do when the requested group cannot answer."""

    ALLOW = "allow"
    """Ask the next group of the fallback chain."""

    REFUSE = "refuse"
    """Answer 503 rather than let another group speak."""


class FallbackReason(StrEnum):
    """Why the requested group did not answer; also the outcome of an attempt that failed."""

    RATE_LIMITED = "rate_limited"
    """The provider answered 429."""

    TIMEOUT = "timeout"
    """The provider did not answer in its time."""

    UNAVAILABLE = "unavailable"
    """A connection failed, the provider answered 5xx, or its answer made no sense or was empty."""

    AUTH = "auth"
    """The provider refused our credentials (401, 403)."""

    CONTEXT_WINDOW = "context_window"
    """The prompt is longer than the model takes."""

    CONTENT_POLICY = "content_policy"
    """The provider refused the content."""

    BAD_REQUEST = "bad_request"
    """The provider refused the request for another reason (400, 422)."""

    MODEL_NOT_FOUND = "model_not_found"
    """The provider does not know the model (404)."""

    COOLDOWN = "cooldown"
    """Every deployment of the group was cooling down after earlier failures."""

    NOT_CONFIGURED = "not_configured"
    """The group has no usable deployment: no key, no base URL."""


class ChatMessage(BaseModel):
    """One message in the OpenAI chat shape."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Role
    """Who speaks."""

    content: str
    """What is said."""


class CompletionRequest(BaseModel):
    """The body of ``POST /complete``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: GroupName
    """Model group that should answer."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=1000)]
    """The conversation, oldest first."""

    tenant_id: TenantId
    """Tenant on whose behalf is asked; for logs, never a metric label."""

    agent: AgentName | None = None
    """Agent on whose behalf is asked."""

    max_tokens: Annotated[int, Field(ge=1, le=MAX_REPLY_TOKENS)] | None = None
    """Longest reply, in tokens; the provider's default when absent."""

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """Sampling temperature; the provider's default when absent."""

    timeout_s: Annotated[float, Field(gt=0, le=MAX_TIMEOUT_S)] | None = None
    """Seconds until the pool gives up (504); the pool's own default and maximum apply."""

    fallback: FallbackPolicy = FallbackPolicy.ALLOW
    """Whether another group may answer."""


class Attempt(BaseModel):
    """One call to one deployment, made for one request."""

    model_config = ConfigDict(frozen=True)

    deployment: str
    """Name of the deployment, for instance ``anthropic/claude-sonnet-4-20250514``."""

    group: str
    """Model group the deployment was asked for."""

    outcome: Literal["ok"] | FallbackReason
    """``ok``, or why it failed."""

    ms: Annotated[float, Field(ge=0)]
    """Milliseconds spent."""


class Usage(BaseModel):
    """Tokens, as the provider counted them."""

    model_config = ConfigDict(frozen=True)

    prompt_tokens: Annotated[int, Field(ge=0)] = 0
    """Tokens read."""

    completion_tokens: Annotated[int, Field(ge=0)] = 0
    """Tokens written."""


class CompletionResponse(BaseModel):
    """The envelope: the reply and the truth about who wrote it."""

    model_config = ConfigDict(frozen=True)

    content: Annotated[str, StringConstraints(min_length=1)]
    """The reply."""

    model: str
    """The model that really answered, as its provider names it."""

    requested_group: str
    """The group that was asked for."""

    served_group: str
    """The group that answered."""

    degraded: bool
    """Whether another group answered than the one asked for."""

    fallback_reason: FallbackReason | None
    """Why the requested group did not answer; null when it did."""

    attempts: list[Attempt]
    """Every call made for this request, in order; the last one answered."""

    usage: Usage
    """Tokens of the answering call."""

    cost_usd: float | None
    """Price of the answering call; null when the model has no known price."""

    latency_ms: Annotated[float, Field(ge=0)]
    """Milliseconds from the request's arrival to the answer."""


class ProblemCode(StrEnum):
    """What kind of error an answer is; the end of its ``type`` URN."""

    UNAUTHORIZED = "unauthorized"
    """401: no bearer token, or a wrong one."""

    UNKNOWN_GROUP = "unknown_group"
    """404: no such model group."""

    TOO_LARGE = "too_large"
    """413: the body is over the limit."""

    INVALID_REQUEST = "invalid_request"
    """422 (400 for a body that is no JSON, 408 for one that does not arrive): the request is malformed."""

    OVERLOADED = "overloaded"
    """429: too many requests in flight; ``Retry-After`` says when to return."""

    PROVIDERS_FAILED = "providers_failed"
    """503: every provider that could be asked failed."""

    FALLBACK_REFUSED = "fallback_refused"
    """503: the requested group failed and the request forbade another."""

    DEADLINE_EXCEEDED = "deadline_exceeded"
    """504: the request's time was up."""

    NOT_FOUND = "not_found"
    """404: no such path (405: no such method on it)."""

    INTERNAL = "internal_error"
    """500: a fault of the pool itself."""


class Problem(BaseModel):
    """An error answer (RFC 9457), media type ``application/problem+json``."""

    model_config = ConfigDict(frozen=True)

    type: str
    """URN ``urn:konstruct:problem:<code>``."""

    title: str
    """The kind of problem in a few words."""

    status: int
    """HTTP status."""

    detail: str
    """What happened and what to do; never text from a provider."""

    code: ProblemCode
    """The kind of problem, for programs."""

    requested_group: str | None = None
    """Group that was asked for, where one was."""

    fallback_reason: FallbackReason | None = None
    """Why the requested group did not answer (503)."""

    attempts: list[Attempt] = Field(default_factory=list)
    """Calls made before the request failed."""


class GroupHealth(BaseModel):
    """One model group on ``GET /health``."""

    model_config = ConfigDict(frozen=True)

    name: str
    """Name of the group."""

    configured: bool
    """Whether it has at least one usable deployment."""

    deployments: list[str]
    """Names of its deployments."""

    cooling: list[str]
    """Those that are cooling down at present."""

    missing: list[str] = Field(default_factory=list)
    """What to set to make the group usable or fuller, for instance ``ANTHROPIC_API_KEY``."""

    falls_back_to: list[str]
    """Groups asked next, in order."""


class Health(BaseModel):
    """``GET /health``: liveness and a summary. 200 whatever providers do."""

    model_config = ConfigDict(frozen=True)

    status: Literal["ok"]
    """The process answers."""

    version: str
    """Version of the llm-pool."""

    in_flight: int
    """Completions under way."""

    groups: list[GroupHealth]
    """Every model group."""
