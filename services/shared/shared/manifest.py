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


MAX_JSON = 2 * MAX_MANIFEST_BYTES
"""Most characters that one document may have as JSON: more than its file, for aliases repeat parts of it."""

MAX_MERGED = 100_000
"""Most fields that the merge keys (``<<``) of a file may copy."""

_BROKEN = (yaml.YAMLError, RecursionError, ValueError, TypeError, LookupError, AttributeError)
"""What PyYAML raises for a text that is no YAML, or for a value that is not what its tag says."""


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
        documents = list(yaml.load_all(text, _Loader))
    except _BROKEN as error:
        raise ManifestError(f"not valid YAML: {_yaml_problem(error)}") from None
    return [
        manifest
        for position, document in enumerate(documents, start=1)
        if document is not None and (manifest := _one(document, position)) is not None
    ]


class _Loader(yaml.SafeLoader):
    """Bounds what merge keys copy: a few lines could ask for more than any memory holds."""

    merged = 0
    """Fields copied so far."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Copy what the merge keys of `node` name."""
        for key, value in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    self._count(source)
        super().flatten_mapping(node)

    def _count(self, source: yaml.Node) -> None:
        if not isinstance(source, yaml.MappingNode):
            return  # refused in a moment
        self.flatten_mapping(source)
        self.merged += len(source.value)
        if self.merged > MAX_MERGED:
            raise ValueError(f"merge keys copy more than {MAX_MERGED} fields")


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
        return model.model_validate_json(_as_json(document), strict=True)
    except ValidationError as error:
        complaint = describe(error)
    except (TypeError, ValueError, RecursionError) as error:
        complaint = f"it cannot be written as JSON: {error}"
    name = document["metadata"].get("name") if isinstance(document.get("metadata"), dict) else None
    label = f"{kind} {name}" if isinstance(name, str) else f"{kind} (document {position})"
    raise ManifestError(_printable(f"{label}: {complaint}"))


def _as_json(document: dict[str, Any]) -> str:
    """Write a document as JSON, unless it is far longer than a file: its aliases may repeat any part."""
    if _length(document, {}) > MAX_JSON:
        raise ValueError(f"with what its aliases repeat it is over {MAX_JSON} characters")
    return json.dumps(document, default=str)


def _length(value: Any, known: dict[int, int]) -> int:
    """Return about how many characters `value` has as JSON, looking at each part of it once."""
    if isinstance(value, str):
        return len(value)
    if not isinstance(value, dict | list | tuple):
        return 1
    if id(value) not in known:
        known[id(value)] = 0  # in itself: refused in a moment
        inner = (*value, *value.values()) if isinstance(value, dict) else value
        known[id(value)] = len(value) + 1 + sum(_length(each, known) for each in inner)
    return known[id(value)]


def _printable(text: str) -> str:
    """Replace lone surrogates: no stream takes them."""
    return text.encode(errors="replace").decode()


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
