"""Turns the OpenAPI document of a real API server into the JSON Schemas that kubeconform reads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LOCATION = "{{ .Group }}_{{ .ResourceAPIVersion }}_{{ .ResourceKind }}.json"
"""Name of a kind's file, as kubeconform fills it in."""

_EITHER = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"type": ["string", "integer"]},
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": ["string", "number"]},
}
"""Types that the document calls strings, though the API server takes numbers too."""

Schema = dict[str, Any]


def write_schemas(document: Schema, folder: Path) -> int:
    """Write one strict schema for each kind of the OpenAPI v2 `document`; return how many."""
    definitions = {name: _strict(schema) for name, schema in document["definitions"].items()} | _EITHER
    written = 0
    for name, schema in document["definitions"].items():
        for kind in schema.get("x-kubernetes-group-version-kind", []):
            if len(schema["x-kubernetes-group-version-kind"]) > 1:
                continue  # options of requests, which are of every group
            # kubeconform takes the first part of apiVersion for the group, also of the core group's.
            group = kind["group"] or kind["version"]
            path = folder / f"{group}_{kind['version']}_{kind['kind'].lower()}.json"
            used = {one: definitions[one] for one in sorted({name, *_reached(name, definitions)})}
            path.write_text(json.dumps({"$ref": f"#/definitions/{name}", "definitions": used}))
            written += 1
    return written


def _strict(schema: Any) -> Any:
    """Refuse unknown properties wherever some are known."""
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _strict(value) for key, value in schema.items()}
    open_end = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if isinstance(schema.get("properties"), dict) and not open_end:
        made["additionalProperties"] = False
    return made


def _reached(name: str, definitions: Schema) -> set[str]:
    """Name every definition that one leads to."""
    found: set[str] = set()
    left = [name]
    while left:
        for reference in _references(definitions[left.pop()]):
            if reference not in found:
                found.add(reference)
                left.append(reference)
    return found


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, list):
        for item in schema:
            yield from _references(item)
    elif isinstance(schema, dict):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"].rpartition("/")[2]
        for value in schema.values():
            yield from _references(value)
