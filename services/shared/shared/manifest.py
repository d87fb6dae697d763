"""Reading Agent and Namespace manifests from YAML, with errors that say where and what to do.

Pure: text in, models out. Used for folders of manifests and by ``konstruct render``.
"""

from __future__ import annotations

import json
from typing import Any

import yaml
from pydantic import ValidationError

from shared.models import API_VERSION, Agent, Namespace

MAX_MANIFEST_BYTES = 1_048_576
"""Largest manifest file that is read."""


class ManifestError(Exception):
    """A manifest cannot be used; the message says where and what to do."""


def load_manifests(text: str) -> list[Agent | Namespace]:
    """Read every document of a YAML text.

    Documents of kinds other than Agent and Namespace are passed over: a file may hold more than
    Konstruct reads.

    Raises:
        ManifestError: the text is no YAML, or an Agent or Namespace in it is not valid.
    """
    if len(text.encode()) > MAX_MANIFEST_BYTES:
        raise ManifestError(f"the file is over {MAX_MANIFEST_BYTES} bytes; split it")
    try:
        documents = list(yaml.safe_load_all(text))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ManifestError(f"not valid YAML: {_yaml_problem(error)}") from None
    return [
        manifest
        for position, document in enumerate(documents, start=1)
        if document is not None and (manifest := _one(document, position)) is not None
    ]


def _one(document: Any, position: int) -> Agent | Namespace | None:
    if not isinstance(document, dict) or "kind" not in document:
        raise ManifestError(f"document {position} is no Kubernetes manifest: it has no kind")
    kind = document["kind"]
    model: type[Agent] | type[Namespace]
    if kind == "Agent":
        model = Agent
        if document.get("apiVersion") != API_VERSION:
            raise ManifestError(f"document {position}: an Agent's apiVersion must be {API_VERSION}")
    elif kind == "Namespace":
        model = Namespace
    else:
        return None
    try:
        # By way of JSON, as `kubectl` sends it, and strictly, as an API server checks it.
        return model.model_validate_json(json.dumps(document, default=str), strict=True)
    except ValidationError as error:
        name = document["metadata"].get("name") if isinstance(document.get("metadata"), dict) else None
        label = f"{kind} {name}" if isinstance(name, str) else f"{kind} (document {position})"
        raise ManifestError(f"{label}: {describe(error)}") from None


def describe(error: ValidationError) -> str:
    """Put a validation error in one line: each field's path and what it should be, no values."""
    return "; ".join(
        f"{'.'.join(str(part) for part in item['loc']) or 'the whole'}: {_message(item)}"
        for item in error.errors(include_input=False, include_url=False)
    )


def _message(item: Any) -> str:
    if item["type"] == "extra_forbidden":
        return "no such field; remove it or correct its name"
    if item["type"] == "missing":
        return "is required"
    if item["type"] == "string_pattern_mismatch":
        return "has a form that is not allowed here (control characters, white space or case)"
    return str(item["msg"]).removeprefix("Value error, ")


def _yaml_problem(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{error.problem} at line {mark.line + 1}, column {mark.column + 1}"
    return type(error).__name__
