"""A stage for workers in a cluster: their rights, and their processes."""

from __future__ import annotations

import contextlib
import itertools
import json
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx

from konstruct_cli.stack.process import ManagedProcess, claim_port
from shared.kube.leases import WorkerLease
from shared.kube.names import lease_path
from shared.reply import Reply
from tests.operator.operator_stage import OperatorStage
from tests.operator.worker_api import Api, Operator, Written
from tests.support.control_plane import ControlPlane
from tests.support.metrics import scrape, total
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
        return total(scrape(self.url), name)

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

    def grant_leases(self) -> None:
        """Grant what every worker needs in its own namespace."""
        self.grant(self.release, LEASE_RULES)

    def asked(self, resource: str, *verbs: str, name: str | None = None) -> list[dict[str, Any]]:
        """What the workers asked of the API server, as its audit log tells."""
        user = f"system:serviceaccount:{self.release}:worker"
        return [
            event
            for event in self.cluster.audit_events()
            if event["user"].get("username") == user  # nobody, when the token was refused
            and event["verb"] in verbs
            and event.get("objectRef", {}).get("resource") == resource
            and name in (None, event["objectRef"].get("name"))
        ]

    def kubeconfig_through(self, port: int) -> Path:
        """The workers' kubeconfig, but through a proxy on `port`."""
        path = self.kubeconfig.with_suffix(f".{port}.json")
        path.write_text(self.kubeconfig.read_text().replace(self.cluster.url, f"https://127.0.0.1:{port}"))
        path.chmod(0o600)
        return path

    def kubeconfig_with(self, token: str) -> str:
        """The workers' kubeconfig, with another token."""
        config = json.loads(self.kubeconfig.read_text())
        config["users"][0]["user"]["token"] = token
        return json.dumps(config)

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


def worker_beside(operator: OperatorStage, cell: Cell) -> Stage:
    """Set up a stage for workers of the release of an operator, with the rights of its mode."""
    operator.cluster.kubectl("create", "serviceaccount", "worker", f"--namespace={operator.home}")
    made = Stage(
        cluster=operator.cluster,
        api=operator.api,
        operator=Operator(operator.api),
        cell=cell,
        release=operator.home,
        tenant=operator.space,
        kubeconfig=operator.cluster.kubeconfig_for(operator.home, "worker"),
        namespaces=operator.watched,
    )
    made.grant_leases()
    for namespace in operator.watched or (None,):
        made.grant(namespace, AGENT_RULES)
    return made
