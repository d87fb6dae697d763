"""Rendering an Agent into its identity and persona documents and their revision.

Pure, and the only renderer: the operator writes what this returns into ConfigMaps, ``konstruct render``
prints it, and the worker's directory source uses it. The same spec gives the same bytes everywhere.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.models import AgentSpec, Identity, ModelChoice, OnFallback, Persona

SCHEMA = 1
"""Version of the documents' form."""

REVISION_LENGTH = 16
"""Hexadecimal digits of a revision (64 bits)."""


class DocumentError(Exception):
    """Two documents are not a usable pair; the message says what is wrong with them."""


class IdentityDocument(BaseModel):
    """Who the agent is, as workers read it."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    schema_version: Literal[1] = Field(alias="schema")
    """Version of the document's form."""

    display_name: str = Field(alias="displayName")
    """Name that people see."""

    role: str | None = None
    """Job."""

    identity: Identity = Identity()
    """Who it is."""


class PersonaDocument(BaseModel):
    """How the agent speaks and which models may speak for it, as workers read it."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    schema_version: Literal[1] = Field(alias="schema")
    """Version of the document's form."""

    system_prompt: str = Field(default="", alias="systemPrompt")
    """Instructions."""

    persona: Persona = Persona()
    """How it speaks."""

    model: ModelChoice = ModelChoice()
    """Which models may speak for it."""

    on_fallback: OnFallback = Field(default=OnFallback.ALLOW, alias="onFallback")
    """What it allows when its model group cannot answer."""


class Rendered(BaseModel):
    """The two documents of one revision, as the bytes that are stored and hashed."""

    model_config = ConfigDict(frozen=True)

    identity_json: str
    """Identity document: JSON, keys sorted, two spaces of indent, a newline at its end."""

    persona_json: str
    """Persona document, in the same form."""

    revision: str
    """Hash of both documents, 16 hexadecimal digits."""


class Configuration(BaseModel):
    """Everything that shapes an agent's answers, read from the documents of one revision."""

    model_config = ConfigDict(frozen=True)

    revision: str
    """Revision of the two documents."""

    identity: IdentityDocument
    """Who the agent is."""

    persona: PersonaDocument
    """How it speaks."""


def render(spec: AgentSpec) -> Rendered:
    """Render `spec` into its documents.

    Fields at their default are left out, except the model group and the fallback rule, so that a later
    optional field leaves the revisions of agents that do not use it as they were. ``suspended`` and
    ``revisionHistoryLimit`` shape no answer and are in neither document.
    """
    identity = _document(displayName=spec.display_name, role=spec.role, identity=_set_fields(spec.identity))
    persona = _document(
        systemPrompt=spec.system_prompt,
        persona=_set_fields(spec.persona),
        model={"group": spec.model.group},
        onFallback=spec.on_fallback.value,
    )
    return Rendered(identity_json=identity, persona_json=persona, revision=revision_of(identity, persona))


def revision_of(identity_json: str, persona_json: str) -> str:
    """Hash two documents into their revision.

    The length of the first is part of the hash, so that no text can move from one document to the other
    and keep the revision.
    """
    first = identity_json.encode()
    digest = hashlib.sha256(b"%d\n" % len(first) + first + persona_json.encode())
    return digest.hexdigest()[:REVISION_LENGTH]


def load(identity_json: str, persona_json: str, revision: str) -> Configuration:
    """Read the documents of `revision`.

    Raises:
        DocumentError: the documents do not hash to the revision, or their schema is not known here.
    """
    try:
        found = revision_of(identity_json, persona_json)
    except UnicodeEncodeError:
        raise DocumentError("the documents are no Unicode text") from None
    if found != revision:
        raise DocumentError(f"the documents hash to {found}, not to the revision {revision}")
    try:
        return Configuration(
            revision=revision,
            # A later version may add optional fields to a form that is known here.
            identity=IdentityDocument.model_validate_json(identity_json, extra="ignore"),
            persona=PersonaDocument.model_validate_json(persona_json, extra="ignore"),
        )
    except ValidationError as error:
        fields = ", ".join(sorted({str(item["loc"][0]) for item in error.errors() if item["loc"]}))
        raise DocumentError(f"revision {revision} has a form not known here: {fields}") from error


def _set_fields(model: BaseModel) -> dict[str, Any]:
    return model.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def _document(**fields: Any) -> str:
    kept = {key: value for key, value in fields.items() if value not in (None, "", {}, [])}
    return json.dumps({"schema": SCHEMA, **kept}, ensure_ascii=False, indent=2, sort_keys=True) + "\n"
