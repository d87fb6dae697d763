"""The schema of an Agent's status: what the operator says of it. Pure."""

from __future__ import annotations

from typing import Any

from shared.kube.objects import ConditionType

MAX_MESSAGE = 2048
"""Longest message of a condition."""


def status_schema() -> dict[str, Any]:
    """Build the schema of ``status``."""
    return {
        "type": "object",
        "description": "What the operator says of the agent. Nobody else writes it.",
        # Written as a whole: owned field by field, the record of owners would be larger than the status.
        "x-kubernetes-map-type": "atomic",
        "properties": {
            "observedGeneration": {
                "type": "integer",
                "format": "int64",
                "description": "Generation of the spec that this status speaks of.",
            },
            "activeRevision": _text(
                16, "Revision that answers: a hash of the two documents that the spec renders to."
            ),
            "observedTime": {
                "type": "string",
                "format": "date-time",
                "maxLength": 32,
                "description": "When the operator first saw this generation, to the microsecond.",
            },
            "tenantId": _text(63, "Tenant that it answers for, from the label of its namespace."),
            "promptSha256": _text(64, "SHA-256 of its system prompt, with the AI transparency clause."),
            "transparencyClause": _text(16, "Version of the AI transparency clause in its prompt."),
            "conditions": {
                "type": "array",
                "description": f"Conditions: {', '.join(ConditionType)}.",
                "maxItems": 16,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
                "items": _condition_schema(),
            },
        },
    }


def _condition_schema() -> dict[str, Any]:
    return {
        "type": "object",
        "description": "One aspect of the agent.",
        "required": ["type", "status", "lastTransitionTime", "reason", "message"],
        "properties": {
            "type": _text(316, "Which aspect."),
            "status": {
                "type": "string",
                "enum": ["True", "False", "Unknown"],
                "maxLength": 7,
                "description": "Whether it holds.",
            },
            "observedGeneration": {
                "type": "integer",
                "format": "int64",
                "description": "Generation of the spec that it speaks of.",
            },
            "lastTransitionTime": {
                "type": "string",
                "format": "date-time",
                "maxLength": 32,
                "description": "When its status last changed.",
            },
            "reason": _text(1024, "The cause, in one word."),
            "message": _text(MAX_MESSAGE, "What is going on, and what to do about it."),
        },
    }


def _text(longest: int, description: str) -> dict[str, Any]:
    return {"type": "string", "maxLength": longest, "description": description}
