"""A stage for workers in a cluster: an operator's writes without an operator, RBAC, and worker processes."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import secrets
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import httpx
from prometheus_client.parser import text_string_to_metric_families

from konstruct_cli.stack.process import ManagedProcess, claim_port
from shared.kube.leases import WorkerLease
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
    lease_path,
)
from shared.models import AgentSpec
from shared.persona import Rendered, render
from shared.reply import Reply
from tests.support.cluster import Cluster
from tests.support.control_plane import ControlPlane
from tests.support.waiting import eventually
from tests.support.worker import Cell

LEASE_S = 3
"""Duration of the workers' Leases in tests."""

AGENT_RULES = [
    {"apiGroups": ["konstruct.dev"], "resources": ["agents"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]},
]
"""All that a worker may do where Agents are."""

LEASE_RULES = [
    {
        "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "verbs": ["create", "patch", "delete"],
    }
]
"""All that a worker may do in its own namespace."""

_API_GROUP = "rbac.authorization.k8s.io"
_numbers = itertools.count()


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
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
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


@dataclass
class Worker:
    """A worker process in the cluster."""

    stage: Stage
    pod: str
    process: ManagedProcess
    url: str

    def probe(self, path: str) -> int:
        """Status code of a probe; 0 while it does not listen."""
        try:
            return httpx.get(f"{self.url}{path}", trust_env=False, timeout=5).status_code
        except httpx.TransportError:
            return 0

    def metric(self, name: str) -> float:
        """Sum of a metric's samples."""
        text = httpx.get(f"{self.url}/metrics", trust_env=False, timeout=5).text
        families = text_string_to_metric_families(text)
        return sum(sample.value for family in families for sample in family.samples if sample.name == name)

    def ready(self, within_s: float = 30.0) -> Self:
        """Wait until it takes messages."""
        eventually(lambda: self.probe("/readyz") == 200, within_s=within_s, what=f"{self.pod} is ready")
        return self

    def lease(self) -> WorkerLease | None:
        """Its Lease, as the operator reads it."""
        found = self.stage.api.find(lease_path(self.stage.release, self.pod))
        return WorkerLease.of(found) if found else None

    def seen(self, namespace: str) -> int:
        """What its Lease says of a namespace; 0 for nothing."""
        lease = self.lease()
        return (lease.state.seen_in(namespace) if lease else None) or 0

    def sees(self, namespace: str, written: Written, within_s: float = 20.0) -> None:
        """Wait until its Lease says that it is past a write."""
        eventually(lambda: self.seen(namespace) >= written.version, within_s=within_s, what="the Lease")

    def log(self) -> str:
        return self.process.log.read_text()


@dataclass
class Stage:
    """Where workers run."""

    cluster: ControlPlane
    api: Api
    operator: Operator
    cell: Cell
    release: str
    """Namespace of the workers' Leases and ServiceAccount."""
    tenant: str
    """Namespace of Agents, and the tenant of the same name."""
    kubeconfig: Path
    """The workers' own."""
    namespaces: tuple[str, ...] = ()
    """Watched namespaces; none: all."""
    end: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def grant(self, namespace: str | None, rules: list[dict[str, Any]]) -> None:
        """Grant `rules` to the workers, in a namespace or in the cluster."""
        name = f"worker-{secrets.token_hex(4)}"
        scope = "" if namespace else "Cluster"
        metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
        common = {"apiVersion": f"{_API_GROUP}/v1", "metadata": metadata}
        subject = {"kind": "ServiceAccount", "name": "worker", "namespace": self.release}
        reference = {"apiGroup": _API_GROUP, "kind": f"{scope}Role", "name": name}
        self.cluster.apply(
            {**common, "kind": f"{scope}Role", "rules": rules},
            {**common, "kind": f"{scope}RoleBinding", "roleRef": reference, "subjects": [subject]},
        )
        if namespace is None:
            for plural in ("clusterroles", "clusterrolebindings"):
                self.end.callback(self.api.delete, f"/apis/{_API_GROUP}/v1/{plural}/{name}")

    def kubeconfig_through(self, port: int) -> Path:
        """The workers' kubeconfig, but through a proxy on `port`."""
        path = self.kubeconfig.with_suffix(f".{port}.json")
        path.write_text(self.kubeconfig.read_text().replace(self.cluster.url, f"https://127.0.0.1:{port}"))
        path.chmod(0o600)
        return path

    def worker(self, *, kubeconfig: Path | None = None, lease_s: int = LEASE_S, **more: str) -> Worker:
        """Start a worker; it may not be ready yet."""
        pod, port = f"worker-{next(_numbers)}", claim_port("worker", None)
        process = self.cell.start_worker(
            KONSTRUCT_AGENTS_DIR="",
            KONSTRUCT_KUBECONFIG=str(kubeconfig or self.kubeconfig),
            KONSTRUCT_POD_NAME=pod,
            KONSTRUCT_POD_NAMESPACE=self.release,
            KONSTRUCT_WATCH_NAMESPACES=",".join(self.namespaces),
            KONSTRUCT_WORKER_LEASE_S=str(lease_s),
            KONSTRUCT_WORKER_LISTEN=f"127.0.0.1:{port}",
            **more,
        )
        return Worker(self, pod, process, f"http://127.0.0.1:{port}")

    def ask(self, agent: str = "ada", tenant: str | None = None) -> Reply:
        """Send a message and wait for its reply."""
        message = self.cell.message("hello", tenant_id=tenant or self.tenant, agent=agent)
        self.cell.submit(message)
        return self.cell.reply(message)
