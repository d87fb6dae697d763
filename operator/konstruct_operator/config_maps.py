"""The ConfigMaps that hold a revision's documents: building them, and telling good from forged. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from shared.kube.names import (
    AGENT_LABEL,
    FIELD_MANAGER,
    GROUP,
    MANAGED_BY_LABEL,
    PART_LABEL,
    PARTS,
    REVISION_LABEL,
    VERSION,
    config_map_name,
    document_key,
    documents_of,
)
from shared.kube.objects import AgentRef, Object, StoredAgent
from shared.models import TENANT_LABEL
from shared.persona import REVISION_LENGTH, Rendered

SELECTOR = f"{MANAGED_BY_LABEL}={FIELD_MANAGER}"
"""Label selector of every rendered ConfigMap."""

_LABELS = (AGENT_LABEL, TENANT_LABEL, REVISION_LABEL, PART_LABEL, MANAGED_BY_LABEL)
_NAME = re.compile(rf"(?P<agent>.+)-(?:{'|'.join(PARTS)})-(?P<revision>[0-9a-f]{{{REVISION_LENGTH}}})")


_FINGERPRINT = "fingerprint"
_METADATA = ("namespace", "name", "uid", "resourceVersion", "creationTimestamp")


@dataclass(frozen=True, slots=True)
class KnownConfigMap:
    """A rendered ConfigMap that the cluster holds: enough to judge it, without what it says."""

    name: str
    """Its name."""

    uid: str
    """Identity of the object."""

    resource_version: int
    """Version of the object."""

    created: str
    """When it was made, as the API writes it."""

    fingerprint: bytes
    """Hash of everything in it that is the operator's business."""

    @classmethod
    def of(cls, item: Object) -> KnownConfigMap:
        """Read an object of the API."""
        metadata = item["metadata"]
        known = item.get(_FINGERPRINT)
        return cls(
            name=metadata["name"],
            uid=metadata["uid"],
            resource_version=int(metadata["resourceVersion"]),
            created=metadata["creationTimestamp"],
            fingerprint=known if isinstance(known, bytes) else fingerprint(item),
        )

    @property
    def revision(self) -> str:
        """Revision that its name says it belongs to."""
        found = _NAME.fullmatch(self.name)
        return found["revision"] if found else ""


def owner_of(namespace: str, name: str) -> AgentRef | None:
    """Tell from a ConfigMap's name whose it is; labels can be edited, a name cannot."""
    found = _NAME.fullmatch(name)
    return (namespace, found["agent"]) if found else None


def config_maps(agent: StoredAgent, tenant_id: str, rendered: Rendered) -> list[Object]:
    """Build the ConfigMaps of one revision of `agent`."""
    owner = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "Agent",
        "name": agent.name,
        "uid": agent.uid,
        "controller": True,
        # Blocking needs a right on agents/finalizers, and nothing waits for these.
        "blockOwnerDeletion": False,
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": config_map_name(agent.name, part, rendered.revision),
                "namespace": agent.namespace,
                "labels": {
                    AGENT_LABEL: agent.name,
                    TENANT_LABEL: tenant_id,
                    REVISION_LABEL: rendered.revision,
                    PART_LABEL: part,
                    MANAGED_BY_LABEL: FIELD_MANAGER,
                },
                "ownerReferences": [owner],
            },
            "immutable": True,
            "data": {document_key(part): document},
        }
        for part, document in documents_of(rendered).items()
    ]


def fingerprint(item: Object) -> bytes:
    """Hash what the operator writes into a ConfigMap; labels and annotations of others do not count."""
    metadata = item["metadata"]
    labels = metadata.get("labels") or {}
    # Names first: an Agent made anew under its old name is another owner.
    owners = [
        [owner.get("name"), owner.get("uid"), owner.get("controller"), owner.get("blockOwnerDeletion")]
        for owner in metadata.get("ownerReferences") or ()
        if owner.get("kind") == "Agent"
    ]
    content = [
        item.get("data") or {},
        item.get("binaryData") or {},
        item.get("immutable", False),
        [labels.get(label) for label in _LABELS],
        owners,
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).digest()[:16]


def fingerprint_alone(item: Object) -> Object:
    """Leave of a ConfigMap what is kept of it: whoever gives one the label decides how long it is."""
    metadata = item["metadata"]
    kept = {name: metadata[name] for name in _METADATA if name in metadata}
    return {"metadata": kept, _FINGERPRINT: fingerprint(item)} if "name" in kept else {"metadata": kept}


def beyond_history(known: Iterable[KnownConfigMap], active: str, limit: int) -> list[KnownConfigMap]:
    """Choose what to prune: all but the active revision and the `limit` newest others."""
    newest: dict[str, tuple[str, int]] = {}
    for found in known:
        age = (found.created, found.resource_version)
        newest[found.revision] = max(newest.get(found.revision, age), age)
    newest.pop(active, None)
    kept = sorted(newest, key=lambda revision: newest[revision], reverse=True)[:limit]
    return sorted(
        (found for found in known if found.revision != active and found.revision not in kept),
        key=lambda found: found.name,
    )
