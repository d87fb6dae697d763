"""The tenants and agents of the tests. A stub provider repeats the marks of a prompt: so it is seen which
revision of which agent answered, in both of its documents."""

from __future__ import annotations

from typing import Any

from shared.kube.objects import Object

RESTRICTED = {
    "pod-security.kubernetes.io/enforce": "restricted",
    "pod-security.kubernetes.io/warn": "restricted",
}


def namespace(name: str, tenant: str | None = None) -> Object:
    """Build a namespace with restricted Pod security, of a tenant or of none."""
    labels = RESTRICTED | ({"konstruct.dev/tenant-id": tenant} if tenant else {})
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def agent(namespace: str, name: str, version: int = 0, **spec: Any) -> Object:
    """Build an agent whose prompt holds its name and `version` in the identity and in the persona."""
    return {
        "apiVersion": "konstruct.dev/v1alpha1",
        "kind": "Agent",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "displayName": name.title(),
            "systemPrompt": f"Answer in one short sentence. [[{name}-{version}]]",
            "identity": {"background": f"You work for {namespace}. [[{name}-{version}]]"},
            **spec,
        },
    }


def says(name: str, version: int) -> str:
    """Give the text of a stub provider's answer in the name of `version`: both documents, both the same."""
    return f"{name}-{version} {name}-{version}"
