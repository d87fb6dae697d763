"""A worker's Lease: what it says of the worker, written by the worker and read by the operator. Pure.

``spec`` is an ordinary Lease (holder, duration, renew time). The annotation ``konstruct.dev/state`` is
JSON: per watched namespace (or ``*``) the resource version up to which every Agent event was applied or
refused, the Agents refused with their reasons (bounded), and the version of the transparency clause.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import zip_longest
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.kube.names import COMPONENT_LABEL, RELEASE_LABEL, STATE_ANNOTATION
from shared.kube.objects import AgentRef, micro_time

ALL_NAMESPACES = "*"
"""Key of ``seen`` for a worker that watches every namespace."""

MAX_REFUSED = 20
"""Refused Agents that a Lease names; ``refused_total`` counts all."""

MAX_HIDDEN = 200
"""Namespaces that a Lease names because more is refused there than there is room to name."""

COMPONENT = "worker"
"""Value of the component label of a worker's Lease."""


class Refusal(BaseModel):
    """An Agent that a worker cannot put in effect."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    namespace: str
    """Namespace of the Agent."""

    name: str
    """Name of the Agent."""

    revision: str
    """Revision that is refused."""

    reason: str = Field(max_length=300)
    """What is wrong with it."""


class WorkerState(BaseModel):
    """What a worker has in effect."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    seen: dict[str, int] = Field(default_factory=dict)
    """Per watched namespace, or ``*``: the resource version up to which all is applied or refused."""

    refused: tuple[Refusal, ...] = Field(default=(), max_length=MAX_REFUSED)
    """Agents that are refused, as many as fit."""

    refused_total: int = 0
    """How many are refused."""

    hidden: tuple[str, ...] | None = Field(default=None, max_length=MAX_HIDDEN)
    """Namespaces where more are refused than are named: no unnamed Agent there counts as in effect.

    None: an earlier version's, which does not say where.
    """

    clause: str = ""
    """Version of its transparency clause."""

    def refusal_of(self, ref: AgentRef, revision: str) -> Refusal | None:
        """Return why `revision` of an Agent is refused, or None when it is not among those named."""
        wanted = (*ref, revision)
        return next((one for one in self.refused if (one.namespace, one.name, one.revision) == wanted), None)

    def has_applied(self, namespace: str, version: int) -> bool:
        """Whether all of `namespace` up to resource version `version` is in effect or refused by name."""
        seen = self.seen_in(namespace)
        if self.hidden is None:
            hidden = self.refused_total > len(self.refused)
        else:
            hidden = namespace in self.hidden or ALL_NAMESPACES in self.hidden
        return seen is not None and seen >= version and not hidden

    def seen_in(self, namespace: str) -> int | None:
        """Resource version up to which `namespace` is applied, or None when it is not watched (yet)."""
        return self.seen.get(namespace, self.seen.get(ALL_NAMESPACES))


@dataclass(frozen=True, slots=True)
class WorkerLease:
    """One worker, as its Lease shows it."""

    name: str
    """Name of the Lease: the worker's Pod's."""

    uid: str
    """Identity of the Lease object."""

    holder: str
    """Name of the Pod; empty once the worker has stopped cleanly."""

    duration_s: float
    """Seconds after a renewal for which the worker answers messages."""

    renewed: str
    """Time of the last renewal, as written by the worker; only ever compared for equality."""

    state: WorkerState
    """What it has in effect."""

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> WorkerLease:
        """Read a Lease; a state that cannot be read is that of a worker that has seen nothing."""
        metadata, spec = item["metadata"], item.get("spec") or {}
        try:
            state = WorkerState.model_validate_json((metadata.get("annotations") or {})[STATE_ANNOTATION])
        except (KeyError, ValidationError):
            state = WorkerState()
        return cls(
            name=metadata["name"],
            uid=metadata["uid"],
            holder=spec.get("holderIdentity") or "",
            duration_s=float(spec.get("leaseDurationSeconds") or 0),
            renewed=spec.get("renewTime") or "",
            state=state,
        )


def told_of(refusals: Iterable[Refusal]) -> tuple[tuple[Refusal, ...], tuple[str, ...]]:
    """Choose which refusals a Lease names, of each namespace in turn, and where there are more.

    However many Agents of one namespace are refused, what is said of the others stays exact.
    """
    by_namespace: dict[str, list[Refusal]] = {}
    for refusal in refusals:
        by_namespace.setdefault(refusal.namespace, []).append(refusal)
    rounds = zip_longest(*by_namespace.values())
    named = [refusal for turn in rounds for refusal in turn if refusal is not None][:MAX_REFUSED]
    told = Counter(refusal.namespace for refusal in named)
    hidden = [namespace for namespace, found in by_namespace.items() if len(found) > told[namespace]]
    return tuple(named), tuple(hidden) if len(hidden) <= MAX_HIDDEN else (ALL_NAMESPACES,)


def lease_manifest(
    *,
    name: str,
    namespace: str,
    pod_uid: str | None,
    release: str,
    duration_s: int,
    renewed: datetime,
    state: WorkerState,
    released: bool = False,
) -> dict[str, Any]:
    """Build the Lease of the worker in the Pod `name`, owned by that Pod; `released`: it has stopped."""
    owner = {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": pod_uid}
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {RELEASE_LABEL: release, COMPONENT_LABEL: COMPONENT},
            "annotations": {STATE_ANNOTATION: state.model_dump_json()},
            "ownerReferences": [owner] if pod_uid else [],
        },
        "spec": {
            "holderIdentity": "" if released else name,
            "leaseDurationSeconds": duration_s,
            "renewTime": micro_time(renewed),
        },
    }


def worker_leases_selector(release: str) -> str:
    """Label selector of the Leases of the workers of `release`."""
    return f"{RELEASE_LABEL}={release},{COMPONENT_LABEL}={COMPONENT}"
