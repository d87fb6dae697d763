"""A real Kubernetes control plane in child processes: etcd, kube-apiserver, kube-controller-manager.

No node, no root, no container. Everything listens on loopback and keeps its files in one folder.
"""

from __future__ import annotations

import base64
import csv
import json
import secrets
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import httpx

from konstruct_cli.stack.process import LOOPBACK, ManagedProcess, claim_port
from tests.support.cluster import Cluster, write_kubeconfig
from tests.support.toolchain import tool

CONTROLLERS = (
    "garbage-collector-controller",
    "namespace-controller",
    "serviceaccount-controller",
    "clusterrole-aggregation-controller",
)
"""What the controller manager runs: deletions, default ServiceAccounts, aggregated ClusterRoles."""

READY_WITHIN_S = 120.0
"""Time that a server has to become ready; a busy machine needs more than the usual second."""

_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}


class ControlPlane(Cluster):
    """One Kubernetes cluster without nodes; a context manager that starts and stops it."""

    def __init__(
        self,
        folder: Path,
        *,
        controllers: Sequence[str] = CONTROLLERS,
        audit: bool = False,
        apiserver_flags: Sequence[str] = (),
        tokens: Mapping[str, str] | None = None,
    ) -> None:
        """`tokens` are those of further users, by user: for a test that has to know one beforehand."""
        super().__init__(folder, folder / "admin.kubeconfig")
        self.audit_log = folder / "audit.jsonl"
        """What was asked of the API server, one JSON event a line; only with ``audit``."""
        self._controllers = controllers
        self._audit = audit
        self._apiserver_flags = apiserver_flags
        self._port = 0
        self._token = secrets.token_urlsafe(32)
        self._tokens = dict(tokens or {})
        self._certificate = folder / "tls" / "apiserver.crt"
        self._running: dict[str, ManagedProcess] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where the API server listens; the same after a restart."""
        return f"https://{LOOPBACK}:{self._port}"

    def pid(self, name: str = "kube-apiserver") -> int:
        """Return the process id of a running part, for a test that freezes or kills it."""
        return self._running[name].pid

    def pids(self) -> list[int]:
        """Return the process ids of all running parts."""
        return [process.pid for process in self._running.values()]

    def start(self) -> None:
        """Start everything and wait until it answers; what was started is stopped if that fails."""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._start_etcd()
            self._port = claim_port("kube-apiserver", None)
            self.start_apiserver()
            authority = base64.b64encode(self._certificate.read_bytes()).decode()
            server = {"server": self.url, "certificate-authority-data": authority}
            write_kubeconfig(self.kubeconfig, server, "admin", self._token)
            if self._controllers:
                self.start_controllers()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop everything, in the order in which nothing is missed by what still runs."""
        for name in ("kube-controller-manager", "kube-apiserver", "etcd"):
            self._stop(name)

    def start_apiserver(self) -> None:
        """Start the API server, on the port that it had before, and wait until it is ready."""
        tokens = self.folder / "tokens.csv"
        tokens.touch(mode=0o600)
        with tokens.open("w", newline="") as lines:
            rows = csv.writer(lines)
            rows.writerow([self._token, "admin", "admin", "system:masters"])
            rows.writerows([token, user, user] for user, token in self._tokens.items())
        # The server makes its own certificate on the first start. Its key also signs the ServiceAccounts'
        # tokens, so that no program is needed to make another.
        tls = self._certificate.parent
        flags = {
            "etcd-servers": self._etcd_url,
            "bind-address": LOOPBACK,
            "advertise-address": LOOPBACK,
            "secure-port": self._port,
            "endpoint-reconciler-type": "none",  # nobody here reads the Service named kubernetes
            "service-cluster-ip-range": "10.96.0.0/16",
            "cert-dir": tls,
            "token-auth-file": tokens,
            "authorization-mode": "RBAC",
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-signing-key-file": tls / "apiserver.key",
            "service-account-key-file": tls / "apiserver.key",
        }
        if self._audit:
            policy = self.folder / "audit-policy.json"
            policy.write_text(json.dumps(_AUDIT_POLICY))
            flags |= {"audit-policy-file": policy, "audit-log-path": self.audit_log}
        # Without nodes there is nothing to drain: a client that watches must not delay the end.
        process = self._run("kube-apiserver", flags, *self._apiserver_flags, grace_s=1.0)
        process.wait_ready(self._apiserver_ready, READY_WITHIN_S)

    def stop_apiserver(self) -> None:
        """Stop the API server alone."""
        self._stop("kube-apiserver")

    def restart_apiserver(self) -> None:
        """Stop the API server, start it on the same port, and wait until it is ready."""
        self.stop_apiserver()
        self.start_apiserver()

    def start_controllers(self) -> None:
        """Start the controller manager and wait until it works.

        Its garbage collector notices a new CRD within 30 s; a restart notices it at once.
        """
        flags = {
            "kubeconfig": self.kubeconfig,
            "leader-elect": "false",
            "secure-port": "0",
            "controllers": ",".join(self._controllers),
        }
        process = self._run("kube-controller-manager", flags, grace_s=1.0)
        process.wait_ready(self._controllers_ready, READY_WITHIN_S)

    def restart_controllers(self) -> None:
        """Stop the controller manager and start it again, which makes it look for new CRDs at once."""
        self._stop("kube-controller-manager")
        self.start_controllers()

    def audit_events(self) -> list[dict[str, Any]]:
        """Return all that was asked of the API server so far; only with ``audit``."""
        # Read at once: line by line, the rest of a line that is being written would look like another.
        whole, _, _ = self.audit_log.read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def _start_etcd(self) -> None:
        clients, peers = (f"http://{LOOPBACK}:{claim_port('etcd', None)}" for _ in range(2))
        self._etcd_url = clients
        flags = {
            "data-dir": self.folder / "etcd",
            "listen-client-urls": clients,
            "advertise-client-urls": clients,
            "listen-peer-urls": peers,
            "initial-advertise-peer-urls": peers,
            "initial-cluster": f"default={peers}",
        }
        # The data dies with the tests, so nothing waits for the disk.
        process = self._run("etcd", flags, "--unsafe-no-fsync")
        process.wait_ready(lambda: _answers(f"{clients}/health"), READY_WITHIN_S)

    def _run(
        self, name: str, flags: Mapping[str, object], *more: str, grace_s: float = 10.0
    ) -> ManagedProcess:
        command: list[str | Path] = [
            tool(name),
            *(f"--{flag}={value}" for flag, value in flags.items()),
            *more,
        ]
        process = ManagedProcess(
            name, command, log=self.folder / f"{name}.log", env=self.environment(), grace_s=grace_s
        )
        process.start()
        self._running[name] = process
        return process

    def _stop(self, name: str) -> None:
        if process := self._running.pop(name, None):
            process.stop()

    def _apiserver_ready(self) -> bool:
        if not self._certificate.is_file():
            return False
        try:
            trust = ssl.create_default_context(cafile=self._certificate)
        except ssl.SSLError:  # half written
            return False
        return _answers(f"{self.url}/readyz", trust)

    def _controllers_ready(self) -> bool:
        """Say whether they have done their first work: the default ServiceAccount."""
        return self.find("serviceaccount", "default", "--namespace=default") is not None


def _answers(url: str, trust: ssl.SSLContext | None = None) -> bool:
    """Say whether `url` answers with 200."""
    try:
        return httpx.get(url, verify=trust or False, trust_env=False, timeout=5.0).status_code == 200
    except httpx.TransportError:
        return False
