"""The API server as its administrator, and an operator's writes without an operator."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx

from shared.kube.names import (
    AGENT_LABEL,
    FIELD_MANAGER,
    MANAGED_BY_LABEL,
    PARTS,
    REVISION_LABEL,
    agent_path,
    config_map_name,
    config_map_path,
    document_key,
    documents_of,
)
from shared.kube.objects import micro_time
from shared.models import AgentSpec
from shared.persona import Rendered, render
from tests.support.cluster import Cluster


class Api:
    """The API server, as its administrator."""

    def __init__(self, cluster: Cluster) -> None:
        config = json.loads(cluster.kubeconfig.read_text())
        server = config["clusters"][0]["cluster"]
        authority = base64.b64decode(server["certificate-authority-data"]).decode()
        self._client = httpx.Client(
            base_url=server["server"],
            headers={"authorization": f"Bearer {config['users'][0]['user']['token']}"},
            verify=ssl.create_default_context(cadata=authority),
            trust_env=False,
            timeout=20,
        )

    def close(self) -> None:
        self._client.close()

    def apply(self, path: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
        answer = self._client.patch(
            path,
            params={"fieldManager": FIELD_MANAGER, "force": "true"},
            headers={"content-type": "application/apply-patch+yaml"},
            content=json.dumps(manifest),
        )
        assert answer.is_success, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def find(self, path: str) -> dict[str, Any] | None:
        answer = self._client.get(path)
        if answer.status_code == 404:
            return None
        found: dict[str, Any] = answer.raise_for_status().json()
        return found

    def delete(self, path: str) -> None:
        answer = self._client.delete(path)
        assert answer.is_success or answer.status_code == 404, answer.text


@dataclass
class Written:
    """What the operator wrote."""

    revision: str
    version: int


class Operator:
    """Writes what an operator writes, when a test says so."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def apply(self, namespace: str, name: str, *, tenant: str | None = None, **spec: Any) -> Written:
        """Write an Agent and put it in effect, for the tenant named like the namespace."""
        self.write_spec(namespace, name, **spec)
        rendered = render(AgentSpec.model_validate(_spec(name, spec)))
        self.write_documents(namespace, name, rendered)
        return self.activate(namespace, name, rendered.revision, tenant=tenant or namespace)

    def write_spec(self, namespace: str, name: str, **spec: Any) -> None:
        manifest = _agent(namespace, name) | {"spec": _spec(name, spec)}
        self._api.apply(agent_path(namespace, name), manifest)

    def write_documents(self, namespace: str, name: str, rendered: Rendered) -> None:
        for part in PARTS:
            self.write_document(namespace, name, part, rendered.revision, documents_of(rendered)[part])

    def write_document(self, namespace: str, name: str, part: str, revision: str, text: str) -> None:
        config_map = config_map_name(name, part, revision)
        self._api.apply(
            config_map_path(namespace, config_map),
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {
                    "name": config_map,
                    "namespace": namespace,
                    "labels": {
                        AGENT_LABEL: name,
                        REVISION_LABEL: revision,
                        MANAGED_BY_LABEL: FIELD_MANAGER,
                    },
                },
                "immutable": True,
                "data": {document_key(part): text},
            },
        )

    def activate(
        self, namespace: str, name: str, revision: str, *, tenant: str, accepted: bool = True
    ) -> Written:
        now = micro_time(datetime.now(UTC))
        condition = {
            "type": "Accepted",
            "status": str(accepted),
            "reason": "Accepted" if accepted else "NameTaken",
            "message": "",
            "lastTransitionTime": now[:19] + "Z",
        }
        status = {
            "activeRevision": revision,
            "tenantId": tenant,
            "observedTime": now,
            "conditions": [condition],
        }
        stored = self._api.apply(
            agent_path(namespace, name) + "/status", _agent(namespace, name) | {"status": status}
        )
        return Written(revision, int(stored["metadata"]["resourceVersion"]))

    def delete(self, namespace: str, name: str) -> None:
        self._api.delete(agent_path(namespace, name))


def _agent(namespace: str, name: str) -> dict[str, Any]:
    return {
        "apiVersion": "konstruct.dev/v1alpha1",
        "kind": "Agent",
        "metadata": {"name": name, "namespace": namespace},
    }


def _spec(name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    return {"displayName": name.title(), "systemPrompt": "Answer briefly.", **spec}
