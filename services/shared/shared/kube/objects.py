"""Agents as they are stored in a cluster, read leniently: a reader ignores what it does not know. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

Object = dict[str, Any]
"""An object of the Kubernetes API, as its JSON."""

AgentRef = tuple[str, str]
"""(namespace, name) of an Agent."""

Seniority = tuple[datetime, str]
"""Time of creation, then uid: of the Agents that claim one name in one tenant, the smallest is served."""


_REVISION = re.compile("[0-9a-z]{1,63}")  # it becomes a part of a path
_METADATA = (
    "namespace",
    "name",
    "uid",
    "creationTimestamp",
    "generation",
    "resourceVersion",
    "deletionTimestamp",
)


class ConditionType(StrEnum):
    """Conditions of an Agent."""

    ACCEPTED = "Accepted"
    """It has a tenant, and its name in the tenant is its own."""

    NAME_CONFLICT = "NameConflict"
    """Another Agent claims the same name in the same tenant."""

    RENDERED = "Rendered"
    """The documents of its present spec are written and active."""

    CONFIG_SYNCED = "ConfigSynced"
    """Every worker has the active revision in effect, or had, once (it is not taken back)."""

    READY = "Ready"
    """It is accepted, rendered, in effect on every worker, and not suspended."""


class ConditionReason(StrEnum):
    """Reasons of conditions."""

    ACCEPTED = "Accepted"
    """It is served."""

    NO_TENANT = "NoTenant"
    """Its namespace has no label that names a tenant."""

    INVALID_TENANT = "InvalidTenant"
    """The label of its namespace names no possible tenant."""

    NAME_TAKEN = "NameTaken"
    """An older Agent of the tenant has this name."""

    NO_CONFLICT = "NoConflict"
    """No other Agent of the tenant has this name."""

    RENDERED = "Rendered"
    """The documents are written."""

    INVALID_SPEC = "InvalidSpec"
    """The stored spec is not valid for this version; the last good revision stays."""

    NOT_ACCEPTED = "NotAccepted"
    """It is not served, see ``Accepted``."""

    RENDER_FAILED = "RenderFailed"
    """The documents cannot be written."""

    WORKERS_SYNCED = "WorkersSynced"
    """Every worker has the revision in effect."""

    WORKERS_PENDING = "WorkersPending"
    """Some workers do not have the revision in effect yet."""

    WORKER_REFUSED = "WorkerRefused"
    """A worker cannot use the revision; the message says why."""

    WORKER_SILENT = "WorkerSilent"
    """A worker's Lease has expired; nobody knows what it serves."""

    NO_WORKERS = "NoWorkers"
    """There is no worker."""

    READY = "Ready"
    """It answers, with the active revision."""

    SUSPENDED = "Suspended"
    """It is switched off by ``spec.suspended``."""


@dataclass(frozen=True, slots=True)
class StoredAgent:
    """One Agent of the cluster."""

    namespace: str
    """Its namespace."""

    name: str
    """Its name."""

    uid: str
    """Identity of the object: another after it was deleted and made again."""

    created: datetime
    """When it was made (whole seconds)."""

    generation: int
    """Counts the changes of its spec."""

    resource_version: int
    """Version of the object, comparable with others of the cluster."""

    deleting: bool
    """Whether its deletion has begun."""

    spec: Mapping[str, Any]
    """The desired agent, as stored."""

    status: Mapping[str, Any]
    """What the operator says of it, as stored."""

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> StoredAgent:
        """Read an object of the API."""
        metadata = item["metadata"]
        return cls(
            namespace=metadata["namespace"],
            name=metadata["name"],
            uid=metadata["uid"],
            created=datetime.fromisoformat(metadata["creationTimestamp"]),
            generation=int(metadata.get("generation", 1)),
            resource_version=int(metadata["resourceVersion"]),
            deleting="deletionTimestamp" in metadata,
            spec=_mapping(item.get("spec")),
            status=_mapping(item.get("status")),
        )

    @property
    def ref(self) -> AgentRef:
        """Namespace and name."""
        return self.namespace, self.name

    @property
    def seniority(self) -> Seniority:
        """Its place among the Agents of one name in one tenant."""
        return self.created, self.uid

    @property
    def suspended(self) -> bool:
        """Whether it is switched off."""
        return self.spec.get("suspended") is True

    @property
    def active_revision(self) -> str | None:
        """Revision that the operator has put in effect, if any; what cannot be one is none."""
        found = text_of(self.status.get("activeRevision"))
        return found if found is not None and _REVISION.fullmatch(found) else None

    @property
    def tenant_id(self) -> str | None:
        """Tenant that the operator found for it, if any."""
        return text_of(self.status.get("tenantId"))

    @property
    def observed_time(self) -> datetime | None:
        """When the operator first saw the present generation; None also for what is no moment.

        An API server takes offsets and years that Python has not.
        """
        try:
            return datetime.fromisoformat(text_of(self.status.get("observedTime")) or "").astimezone(UTC)
        except (ValueError, OverflowError):
            return None

    def condition(self, kind: ConditionType) -> Mapping[str, Any] | None:
        """Return one of its conditions, or None."""
        return conditions_of(self.status).get(kind.value)

    def is_true(self, kind: ConditionType) -> bool:
        """Whether a condition is True."""
        found = self.condition(kind)
        return found is not None and found.get("status") == "True"


def conditions_of(status: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Give the conditions of a status by their type; what is none is passed over."""
    conditions = status.get("conditions")
    known = map(_mapping, reversed(conditions) if isinstance(conditions, list) else ())
    return {found["type"]: found for found in known if isinstance(found.get("type"), str)}


def agent_alone(item: Object) -> Object:
    """Leave of an Agent what is read of it: labels and annotations may be far longer than all else."""
    metadata = item["metadata"]
    kept = {name: metadata[name] for name in _METADATA if name in metadata}
    return {"metadata": kept, "spec": item.get("spec"), "status": item.get("status")}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def text_of(value: Any) -> str | None:
    """Return what is a text, and not empty."""
    return value or None if isinstance(value, str) else None


def micro_time(moment: datetime) -> str:
    """Write a moment of UTC as the API's type MicroTime does."""
    # strftime writes the year 1 without zeros, which no API server takes.
    return f"{moment.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def as_yaml(item: Object) -> str:
    """Write an object as JSON that is YAML too: there, an escape is a character, and no half of an emoji."""

    def escaped(found: re.Match[str]) -> str:
        code = ord(found[0])
        return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

    return re.sub(r"[^\x20-\x7e]", escaped, json.dumps(item, ensure_ascii=False))
