"""The models that come from outside: the message and the Agent resource. The reply is in ``shared.reply``.

Pure: pydantic only. The Agent here and the CustomResourceDefinition accept the same manifests.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Self
from uuid import uuid4

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)
from pydantic.alias_generators import to_camel

from shared.names import AgentName, ExternalId, GroupName, TenantId

API_VERSION = "konstruct.dev/v1alpha1"
"""``apiVersion`` of the Agent resource."""

TENANT_LABEL = "konstruct.dev/tenant-id"
"""Namespace label that decides the tenant of every Agent in the namespace."""

MAX_SPEC_BYTES = 63 * 1024
"""Largest sum of all texts of a spec, as UTF-8: with the fields' names the spec is then under 64 KiB."""

MAX_TEXT = 32_768
"""Longest text of a message, in characters."""

_CONTROLS = r"\x00-\x08\x0B-\x1F\x7F-\x9F\x{202A}-\x{202E}\x{2066}-\x{2069}"
"""Characters that make a reader and a model see different texts: controls and bidi overrides."""

_SPACE = r"\t-\r \x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000}"
"""White space, spelt out: ``\\s`` means more to Rust's regular expressions than to Go's."""

PLAIN_PATTERN = rf"^[^{_CONTROLS}]*$"
"""Text of any number of lines."""

LINE_PATTERN = rf"^[^{_SPACE}{_CONTROLS}]([^\n\t\x{{2028}}\x{{2029}}{_CONTROLS}]*[^{_SPACE}{_CONTROLS}])?$"
"""One line that neither starts nor ends with white space."""


def _says_something(text: str) -> str:
    if not text.strip():
        raise ValueError("the text is empty; write something")
    if "\x00" in text:
        raise ValueError("the text holds a NUL character; remove it")
    return text


def _can_be_stored(moment: datetime) -> datetime:
    # PostgreSQL takes more years than Python, and gives a moment back in any time zone.
    if not datetime(2, 1, 1, tzinfo=UTC) <= moment < datetime(9999, 1, 1, tzinfo=UTC):
        raise ValueError("the year must be between 2 and 9998")
    return moment


class KonstructMessage(BaseModel):
    """A message addressed to an agent: the payload of the task ``handle_message``."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    message_id: ExternalId = Field(default_factory=lambda: uuid4().hex)
    """Id, unique within the tenant; sending it again is the same message."""

    tenant_id: TenantId
    """Tenant that the sender and the agent belong to."""

    thread_id: ExternalId
    """Conversation; its messages are answered one at a time, in the order received."""

    agent: AgentName
    """Agent that should answer."""

    sender: Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=PLAIN_PATTERN)]
    """Who wrote it, as the channel names them."""

    text: Annotated[
        str, StringConstraints(min_length=1, max_length=MAX_TEXT), AfterValidator(_says_something)
    ]
    """What they wrote; must hold more than white space."""

    channel: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")] = "api"
    """Channel it came through."""

    sent_at: Annotated[AwareDatetime, AfterValidator(_can_be_stored)] = Field(
        default_factory=lambda: datetime.now(UTC)
    )
    """When it was sent (with time zone)."""


class _Camel(BaseModel):
    """A part of the spec: camelCase in manifests, unknown fields refused, null the same as left out."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=to_camel,
        use_attribute_docstrings=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _null_is_left_out(cls, given: Any) -> Any:
        """Do what an API server does: it drops null before it fills in defaults."""
        if not isinstance(given, dict) or None not in given.values():
            return given
        known = {field.alias for field in cls.model_fields.values()}
        return {name: value for name, value in given.items() if value is not None or name not in known}


Text = Annotated[str, StringConstraints(pattern=PLAIN_PATTERN)]
"""Text of any number of lines without control characters."""

Item = Annotated[str, StringConstraints(pattern=LINE_PATTERN, max_length=500)]
"""One line of a list."""


def _as_tuple(given: Any) -> Any:
    return tuple(given) if isinstance(given, list) else given


_FromList = BeforeValidator(_as_tuple)
"""Takes a list where a tuple is meant, in strict validation too."""


class OnFallback(StrEnum):
    """What an agent allows when its model group cannot answer."""

    ALLOW = "allow"
    """Another group may answer."""

    DISCLOSE = "disclose"
    """Another group may answer, and the reply says so in a fixed sentence."""

    REFUSE = "refuse"
    """No other group may answer; the sender gets an apology."""


class Identity(_Camel):
    """Who the agent is."""

    name: Annotated[str, StringConstraints(pattern=LINE_PATTERN, max_length=80)] | None = None
    """Name it goes by; ``displayName`` when absent."""

    background: Annotated[Text, StringConstraints(max_length=4096)] | None = None
    """What it knows about itself."""

    expertise: Annotated[tuple[Item, ...], Field(max_length=32), _FromList] = ()
    """What it is good at."""

    languages: Annotated[tuple[Item, ...], Field(max_length=16), _FromList] = ()
    """Languages it speaks."""


class Persona(_Camel):
    """How the agent speaks."""

    tone: Annotated[Text, StringConstraints(max_length=500)] | None = None
    """Tone of voice, for instance ``warm and brief``."""

    style: Annotated[Text, StringConstraints(max_length=500)] | None = None
    """Manner of writing, for instance ``plain words, no lists``."""

    dos: Annotated[tuple[Item, ...], Field(max_length=32), _FromList] = ()
    """What it always does."""

    donts: Annotated[tuple[Item, ...], Field(max_length=32), _FromList] = ()
    """What it never does."""


class ModelChoice(_Camel):
    """Which models may speak for the agent."""

    group: GroupName = "quality"
    """Model group of the llm-pool, such as 'quality' or 'fast'; not a provider's model."""


class AgentSpec(_Camel):
    """The desired agent."""

    display_name: Annotated[str, StringConstraints(pattern=LINE_PATTERN, max_length=80)]
    """Name that people see."""

    role: Annotated[str, StringConstraints(pattern=LINE_PATTERN, max_length=200)] | None = None
    """Job, for instance ``support engineer at Acme``."""

    system_prompt: Annotated[Text, StringConstraints(max_length=16_384)] = ""
    """Instructions; identity, persona and the transparency clause follow them in the prompt."""

    persona: Persona = Persona()
    """How it speaks."""

    identity: Identity = Identity()
    """Who it is."""

    model: ModelChoice = ModelChoice()
    """Which models may speak for it."""

    on_fallback: OnFallback = OnFallback.ALLOW
    """When another group answers in its place: 'allow' that, 'disclose' it in the reply, or 'refuse' it."""

    suspended: bool = False
    """Whether it is switched off; messages to it fail with ``agent_suspended``."""

    revision_history_limit: Annotated[int, Field(ge=0, le=20)] = 3
    """How many old revisions are kept in the cluster."""

    @model_validator(mode="after")
    def _not_too_large(self) -> Self:
        size = sum(len(text.encode()) for text in _texts(self.model_dump(mode="json")))
        if size > MAX_SPEC_BYTES:
            raise ValueError(f"the texts of the spec are {size} bytes; keep it within {MAX_SPEC_BYTES}")
        return self


def _texts(value: Any) -> Iterator[str]:
    """Give every text in a tree, the names of fields apart."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)


class ObjectMeta(BaseModel):
    """The part of Kubernetes' object metadata that Konstruct reads; the rest is ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: AgentName
    """Name of the object."""

    namespace: str = "default"
    """Namespace of the object; ignored on a Namespace."""

    labels: dict[str, str] = Field(default_factory=dict)
    """Labels of the object."""


class Agent(BaseModel):
    """An Agent manifest."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    api_version: Literal["konstruct.dev/v1alpha1"] = Field(alias="apiVersion")
    """Group and version of the resource."""

    kind: Literal["Agent"]
    """Kind of the resource."""

    metadata: ObjectMeta
    """Name and namespace."""

    spec: AgentSpec
    """The desired agent."""


class Namespace(BaseModel):
    """A Namespace manifest, read for its tenant label."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    api_version: Literal["v1"] = Field(alias="apiVersion")
    """Group and version of the resource."""

    kind: Literal["Namespace"]
    """Kind of the resource."""

    metadata: ObjectMeta
    """Name and labels."""

    @property
    def tenant_id(self) -> str | None:
        """The tenant that the namespace belongs to, or None without the label."""
        return self.metadata.labels.get(TENANT_LABEL) or None
