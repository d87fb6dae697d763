"""The names that Konstruct's objects have in a cluster, and the API paths they are reached by. Pure."""

from __future__ import annotations

from shared.persona import Rendered

GROUP = "konstruct.dev"
"""API group of the Agent resource, and prefix of every label and annotation."""

VERSION = "v1alpha1"
"""Version of the Agent resource."""

PLURAL = "agents"
"""Plural of the Agent resource, as in its API paths."""

AGENT_LABEL = f"{GROUP}/agent"
"""Label of a rendered ConfigMap: the Agent it belongs to."""

REVISION_LABEL = f"{GROUP}/revision"
"""Label of a rendered ConfigMap: its revision."""

PART_LABEL = f"{GROUP}/part"
"""Label of a rendered ConfigMap: which of the two documents it holds."""

RELEASE_LABEL = f"{GROUP}/release"
"""Label of a worker's Lease: the Helm release it belongs to."""

COMPONENT_LABEL = "app.kubernetes.io/component"
"""Label that tells a worker's Lease from others: its value there is ``worker``."""

MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
"""Label of everything the operator writes."""

FIELD_MANAGER = "konstruct-operator"
"""The operator's one field manager, and the value of ``app.kubernetes.io/managed-by``."""

WORKER_FIELD_MANAGER = "konstruct-worker"
"""The workers' field manager, for their own Leases."""

STATE_ANNOTATION = f"{GROUP}/state"
"""Annotation of a worker's Lease: what the worker has applied (JSON, see ``shared.kube.leases``)."""

OPERATOR_LEASE = "konstruct-operator"
"""Name of the Lease by which an operator claims a namespace that it serves."""

IDENTITY, PERSONA = "identity", "persona"
"""The two parts of a revision."""

PARTS = (IDENTITY, PERSONA)
"""Every part of a revision."""


def config_map_name(agent: str, part: str, revision: str) -> str:
    """Name of the ConfigMap that holds one part of a revision."""
    return f"{agent}-{part}-{revision}"


def document_key(part: str) -> str:
    """Key in the ConfigMap's data under which the document of `part` is stored."""
    return f"{part}.json"


def documents_of(rendered: Rendered) -> dict[str, str]:
    """Map each part to its document."""
    return {IDENTITY: rendered.identity_json, PERSONA: rendered.persona_json}


def agents_path(namespace: str | None = None) -> str:
    """Path of the Agents of `namespace`, or of all namespaces."""
    return _collection(f"/apis/{GROUP}/{VERSION}", PLURAL, namespace)


def agent_path(namespace: str, name: str) -> str:
    """Path of one Agent."""
    return f"{agents_path(namespace)}/{name}"


def agent_status_path(namespace: str, name: str) -> str:
    """Path of one Agent's status subresource."""
    return f"{agent_path(namespace, name)}/status"


def config_maps_path(namespace: str | None = None) -> str:
    """Path of the ConfigMaps of `namespace`, or of all namespaces."""
    return _collection("/api/v1", "configmaps", namespace)


def config_map_path(namespace: str, name: str) -> str:
    """Path of one ConfigMap."""
    return f"{config_maps_path(namespace)}/{name}"


def leases_path(namespace: str | None = None) -> str:
    """Path of the Leases of `namespace`, or of all namespaces."""
    return _collection("/apis/coordination.k8s.io/v1", "leases", namespace)


def lease_path(namespace: str, name: str) -> str:
    """Path of one Lease."""
    return f"{leases_path(namespace)}/{name}"


def namespace_path(name: str) -> str:
    """Path of one Namespace."""
    return f"/api/v1/namespaces/{name}"


def role_path(name: str, namespace: str | None = None) -> str:
    """Path of a Role of `namespace`, or of a ClusterRole."""
    plural = "clusterroles" if namespace is None else "roles"
    return f"{_collection('/apis/rbac.authorization.k8s.io/v1', plural, namespace)}/{name}"


def pods_path(namespace: str) -> str:
    """Path of the Pods of `namespace`."""
    return _collection("/api/v1", "pods", namespace)


def _collection(api: str, plural: str, namespace: str | None) -> str:
    return f"{api}/{plural}" if namespace is None else f"{api}/namespaces/{namespace}/{plural}"
