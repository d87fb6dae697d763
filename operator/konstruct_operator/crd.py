"""The CustomResourceDefinition of the Agent, built from the pydantic models so that they cannot drift. Pure.

What OpenAPI says well (types, lengths, enumerations, defaults) comes from the models' JSON Schema. Where its
message would show a regular expression, a CEL rule takes its place and says what to do instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from konstruct_operator.crd_status import status_schema
from shared.kube.names import GROUP, PLURAL, VERSION
from shared.models import LINE_PATTERN, MAX_SPEC_BYTES, PLAIN_PATTERN, AgentSpec, ModelChoice
from shared.names import DNS_LABEL

Schema = dict[str, Any]
"""A part of an OpenAPI schema."""

_GROUP_PATTERN = ModelChoice.model_json_schema()["properties"]["group"]["pattern"]

PATTERN_MESSAGES = {
    PLAIN_PATTERN: "remove control characters and marks that change the direction of text",
    LINE_PATTERN: "write one line of text that neither starts nor ends with white space, without control "
    "characters",
    _GROUP_PATTERN: "use lower case letters, digits, '-', '_' and '.', first and last a letter or a digit, "
    "at most 63; it names a model group such as quality or fast, not a provider's model",
}
"""What to do about a text that does not match; every pattern of the models must be here."""

_NAME_MESSAGE = (
    "an Agent's name must be a DNS label: lower case letters, digits and '-', first and last a letter or a "
    "digit, at most 63 characters; choose another name"
)

_COLUMNS = (
    ("Tenant", "string", ".status.tenantId", "Tenant it answers for", 0),
    ("Model", "string", ".spec.model.group", "Model group", 0),
    ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', "Whether it answers", 0),
    (
        "Synced",
        "string",
        '.status.conditions[?(@.type=="ConfigSynced")].status',
        "Whether every worker had the active revision in effect",
        0,
    ),
    ("Revision", "string", ".status.activeRevision", "Revision that answers", 0),
    ("Age", "date", ".metadata.creationTimestamp", "Time since it was made", 0),
    ("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason', "Why it is ready or not", 1),
    ("Message", "string", '.status.conditions[?(@.type=="Ready")].message', "The same in words", 1),
)


def custom_resource_definition() -> Schema:
    """Build the whole manifest."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": "Agent",
                "listKind": "AgentList",
                "plural": PLURAL,
                "singular": "agent",
                "shortNames": ["kag"],
                "categories": ["konstruct"],
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [
                        {"name": name, "type": kind, "jsonPath": path, "description": text, "priority": wide}
                        for name, kind, path, text, wide in _COLUMNS
                    ],
                    "schema": {"openAPIV3Schema": _agent_schema()},
                }
            ],
        },
    }


def spec_schema() -> Schema:
    """Build the schema of ``spec``."""
    document = AgentSpec.model_json_schema(by_alias=True)
    schema = _structural(document, document.get("$defs", {}))
    schema["description"] = "The agent as it should be."
    total = " + ".join(_sizes(schema, "self"))
    schema["x-kubernetes-validations"] = [
        {
            "rule": f"{total} <= {MAX_SPEC_BYTES}",
            "message": f"texts of the spec are over {MAX_SPEC_BYTES} bytes (UTF-8) together; shorten them",
        }
    ]
    return schema


def _agent_schema() -> Schema:
    return {
        "type": "object",
        "description": "An AI employee: who it is, how it speaks and which models may speak for it. The "
        "label konstruct.dev/tenant-id of its namespace decides whose it is.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": "konstruct.dev/v1alpha1"},
            "kind": {"type": "string", "description": "Agent"},
            "metadata": {"type": "object"},
            "spec": spec_schema(),
            "status": status_schema(),
        },
        "x-kubernetes-validations": [
            {
                "rule": f"size(self.metadata.name) <= 63 && self.metadata.name.matches(r'{DNS_LABEL}')",
                "message": _NAME_MESSAGE,
            }
        ],
    }


def _structural(schema: Schema, definitions: dict[str, Schema]) -> Schema:
    """Turn a part of pydantic's JSON Schema into the form that Kubernetes calls structural."""
    if "$ref" in schema:
        own = {key: value for key, value in schema.items() if key != "$ref"}
        return _structural(definitions[schema["$ref"].rpartition("/")[2]] | own, definitions)
    if "anyOf" in schema:
        # Optional: null is not a value in Kubernetes, where it means that the field is left out.
        (inner,) = (choice for choice in schema["anyOf"] if choice.get("type") != "null")
        own = {key: value for key, value in schema.items() if key != "anyOf"}
        return _structural(inner | own, definitions)
    made: Schema = {}
    for key in ("type", "description", "enum", "maxLength", "minLength", "minimum", "maximum", "maxItems"):
        if key in schema:
            made[key] = schema[key]
    if "description" in made:
        made["description"] = made["description"].replace("``", "'")  # people read it in a terminal
    if "enum" in made:
        made["maxLength"] = max(map(len, made["enum"]))
    if schema.get("default") is not None:
        # An object's own defaults fill it in; repeated here they would be a second source.
        made["default"] = {} if "properties" in schema else schema["default"]
    if "pattern" in schema:
        made["x-kubernetes-validations"] = [
            {"rule": f"self.matches(r'{schema['pattern']}')", "message": PATTERN_MESSAGES[schema["pattern"]]}
        ]
    if "items" in schema:
        made["items"] = _structural(schema["items"], definitions)
        made["x-kubernetes-list-type"] = "atomic"
    if "properties" in schema:
        made["properties"] = {
            name: _structural(inner, definitions) for name, inner in schema["properties"].items()
        }
        if schema.get("required"):
            made["required"] = schema["required"]
    return made


def _sizes(schema: Schema, path: str) -> Iterator[str]:
    """Give CEL terms whose sum is the size of every text under `path`."""
    required = schema.get("required", ())
    for name, inner in schema["properties"].items():
        field = f"{path}.{name}"
        if inner["type"] == "object":  # always there: each has a default
            yield from _sizes(inner, field)
            continue
        if inner["type"] == "string" and "enum" not in inner:
            size = f"size(bytes({field}))"
        elif inner["type"] == "array":
            size = f"{field}.map(x, size(bytes(x))).sum()"
        else:
            continue
        always = name in required or "default" in inner
        yield size if always else f"(has({field}) ? {size} : 0)"
