"""Rewrites the parts of the documentation that are read from the code. Run it after changing a setting."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from konstruct_operator.crd import custom_resource_definition
from orchestrator.evidence import Evidence
from shared.config import PREFIX, Settings
from shared.models import KonstructMessage
from shared.signature import HEADER, canonical, sign

DOCS = Path(__file__).parent
"""Folder of the documentation."""

AGENT_DEFINITION = DOCS.parent / "charts" / "konstruct" / "files" / "agents.konstruct.dev.yaml"
"""The CustomResourceDefinition, in the chart."""


def settings_table() -> str:
    """Build the table of settings: variable, default, meaning."""
    rows = [
        f"| `{PREFIX}{name.upper()}` | {_default(field)} | {field.description} |"
        for name, field in Settings.model_fields.items()
    ]
    return "\n".join(["| variable | default | meaning |", "| --- | --- | --- |", *rows])


def message_schema() -> str:
    """Build the JSON Schema of the task's payload, for senders in other languages."""
    schema = KonstructMessage.model_json_schema()
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"


def evidence_schema() -> str:
    """Build the JSON Schema of what ``konstruct explain --json`` writes."""
    schema = Evidence.model_json_schema(mode="serialization")
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"


def signature_vector() -> str:
    """Build an example of a signature with all that goes into it, for senders in other languages."""
    payload = {
        "message_id": "7f0c2a",
        "tenant_id": "acme",
        "thread_id": "sales-42",
        "agent": "ada",
        "sender": "sam@example.org",
        "text": 'Grüße \U0001f600\n"quoted" \\ / \t\x01\x7f\u2028',
        "channel": "email",
        "sent_at": "2026-01-31T12:00:00Z",
    }
    key = "an-example-key-that-must-not-be-used"
    vector = {
        "payload": payload,
        "key": key,
        "canonical_hex": canonical(payload).hex(),
        "header": HEADER,
        "signature": sign(payload, key),
    }
    return json.dumps(vector, indent=2) + "\n"


def agent_definition() -> str:
    """Build the CustomResourceDefinition that the chart includes."""
    head = "# Made by docs/generate.py from operator/konstruct_operator/crd.py; do not edit.\n"
    return head + yaml.safe_dump(custom_resource_definition(), sort_keys=False, width=10_000)


def with_table(page: str) -> str:
    """Put the table of settings in its place in `page`."""
    return re.sub(
        r"(<!-- settings -->\n).*(\n<!-- /settings -->)",
        lambda marks: f"{marks[1]}{settings_table()}{marks[2]}",
        page,
        flags=re.DOTALL,
    )


def _default(field: FieldInfo) -> str:
    default = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
    if default in (None, ()):
        return "none"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


if __name__ == "__main__":
    page = DOCS / "configuration.md"
    page.write_text(with_table(page.read_text()))
    (DOCS / "schemas" / "konstruct-message.json").write_text(message_schema())
    (DOCS / "schemas" / "konstruct-evidence.json").write_text(evidence_schema())
    (DOCS / "schemas" / "konstruct-signature.json").write_text(signature_vector())
    AGENT_DEFINITION.parent.mkdir(parents=True, exist_ok=True)
    AGENT_DEFINITION.write_text(agent_definition())
