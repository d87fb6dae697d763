"""A stage for operators: RBAC from the chart, operator processes, and workers that a test plays."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from docs.generate import AGENT_DEFINITION
from konstruct_cli.stack.process import ManagedProcess, claim_port
from konstruct_operator.config_maps import SELECTOR
from shared.kube.names import agent_path, agents_path, config_maps_path
from shared.models import TENANT_LABEL
from tests.operator.worker_api import Api
from tests.support.control_plane import ControlPlane
from tests.support.metrics import scrape, total
from tests.support.waiting import eventually

CHART = Path(__file__).parents[2] / "charts" / "konstruct"
"""The chart, whose RBAC the operator gets."""

both_modes = pytest.mark.parametrize(
    "operator_stage", [True, False], indirect=True, ids=["cluster", "namespaces"]
)
"""Runs a test with the rights of each mode."""

_numbers = itertools.count()


def install_crd(cluster: ControlPlane) -> None:
    """Install the Agent resource, as the chart does."""
    cluster.apply(AGENT_DEFINITION.read_text())
    cluster.kubectl("wait", "--for=condition=Established", "crd/agents.konstruct.dev", "--timeout=30s")


def operator_rbac(helm: Path, release: str, home: str, namespaces: tuple[str, ...]) -> str:
    """Render the chart's ServiceAccount and roles of the operator."""
    command: list[str | Path] = [helm, "template", release, CHART, "--namespace", home]
    command += ["--show-only", "templates/operator/rbac.yaml", "--values", CHART / "values-dev.yaml"]
    for number, name in enumerate(namespaces):
        command += ["--set", f"watch.namespaces[{number}]={name}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


class AdminApi(Api):
    """The API server, as its administrator, with creating and editing."""

    def create(self, path: str, manifest: Mapping[str, Any], **query: str) -> httpx.Response:
        return self._client.post(path, json=manifest, params=query)

    def merge(self, path: str, change: Mapping[str, Any]) -> httpx.Response:
        headers = {"content-type": "application/merge-patch+json"}
        return self._client.patch(path, json=change, headers=headers)

    def list(self, path: str, selector: str = "") -> list[dict[str, Any]]:
        answer = self._client.get(path, params={"labelSelector": selector}).raise_for_status()
        found: list[dict[str, Any]] = answer.json()["items"]
        return found


@dataclass
class OperatorProcess:
    """A running operator."""

    process: ManagedProcess
    url: str

    def healthy(self) -> bool:
        try:
            return httpx.get(f"{self.url}/healthz", timeout=2, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def ready(self) -> bool:
        return httpx.get(f"{self.url}/readyz", timeout=2, trust_env=False).status_code == 200

    def metric(self, name: str, **labels: str) -> float:
        return total(scrape(self.url), name, **labels)

    def ended(self) -> bool:
        return self.process.exit_code() is not None

    def log(self) -> str:
        return self.process.log.read_text()

    def stop(self) -> None:
        self.process.stop()


@dataclass
class OperatorStage:
    """One release's operator, its namespaces, its Agents and its workers."""

    cluster: ControlPlane
    api: AdminApi
    helm: Path
    folder: Path
    home: str
    """Namespace of the release."""
    spaces: tuple[str, ...]
    """Namespaces of Agents; the tenant of each has the same name."""
    clusterwide: bool
    release: str = "konstruct"
    end: ExitStack = field(default_factory=ExitStack)
    kubeconfig: Path = Path()
    """The operator's own."""

    def prepare(self) -> OperatorStage:
        """Grant the operator its rights."""
        self.kubeconfig = self.account(self.home, self.release, self.watched)
        return self

    @property
    def watched(self) -> tuple[str, ...]:
        return () if self.clusterwide else self.spaces

    @property
    def space(self) -> str:
        return self.spaces[0]

    def account(self, home: str, release: str, watched: tuple[str, ...]) -> Path:
        """Grant an operator its rights and return its kubeconfig."""
        rbac = operator_rbac(self.helm, release, home, watched)
        self.cluster.apply(rbac)
        self.end.callback(self.cluster.kubectl, "delete", "--ignore-not-found", "-f", "-", stdin=rbac)
        name = release if "konstruct" in release else f"{release}-konstruct"
        return self.cluster.kubeconfig_for(home, f"{name}-operator")

    def start(self, *, ready: bool = True, **more: str) -> OperatorProcess:
        """Start the operator and wait until it works, and can prove that an edit is in effect."""
        number, port = next(_numbers), claim_port("operator", None)
        environment = {
            "PATH": os.environ["PATH"],
            "KONSTRUCT_KUBECONFIG": str(self.kubeconfig),
            "KONSTRUCT_RELEASE": self.release,
            "KONSTRUCT_POD_NAME": f"operator-{number}",
            "KONSTRUCT_POD_NAMESPACE": self.home,
            "KONSTRUCT_WATCH_NAMESPACES": ",".join(self.watched),
            "KONSTRUCT_OPERATOR_LISTEN": f"127.0.0.1:{port}",
            "KONSTRUCT_WORKER_LEASE_S": "2",
            **more,
        }
        process = ManagedProcess(
            f"operator {number}",
            [sys.executable, "-m", "konstruct_operator"],
            log=self.folder / f"operator-{number}.log",
            env=environment,
        )
        process.start()
        self.end.callback(process.stop)
        made = OperatorProcess(process, f"http://127.0.0.1:{port}")
        if ready:
            process.wait_ready(lambda: "working:" in made.log() and "proving:" in made.log(), 60)
        return made

    # --- Agents ---

    def apply(self, name: str = "ada", space: str | None = None, **spec: Any) -> dict[str, Any]:
        """Apply an Agent as a person does, and return it as stored."""
        space = space or self.space
        manifest = {
            "apiVersion": "konstruct.dev/v1alpha1",
            "kind": "Agent",
            "metadata": {"name": name, "namespace": space},
            "spec": {"displayName": name.title(), **spec},
        }
        answer = self.api._client.patch(
            agent_path(space, name),
            params={"fieldManager": "person", "force": "true", "fieldValidation": "Strict"},
            headers={"content-type": "application/apply-patch+yaml"},
            json=manifest,
        )
        assert answer.is_success, answer.text
        stored: dict[str, Any] = answer.json()
        return stored

    def delete(self, name: str = "ada", space: str | None = None) -> None:
        self.api.delete(agent_path(space or self.space, name))

    def status(self, name: str = "ada", space: str | None = None) -> dict[str, Any]:
        found = self.api.find(agent_path(space or self.space, name)) or {}
        return {"generation": found.get("metadata", {}).get("generation")} | (found.get("status") or {})

    def condition(self, kind: str, name: str = "ada", space: str | None = None) -> dict[str, Any]:
        conditions = self.status(name, space).get("conditions", [])
        return next((found for found in conditions if found["type"] == kind), {})

    def until(
        self,
        kind: str,
        status: str,
        reason: str,
        name: str = "ada",
        space: str | None = None,
        within_s: float = 30.0,
    ) -> str:
        """Wait for a condition of the present generation, and return its message."""

        def look() -> str:
            found = self.status(name, space)
            condition = self.condition(kind, name, space)
            if found.get("observedGeneration") != found["generation"]:
                return ""
            same = (condition.get("status"), condition.get("reason")) == (status, reason)
            return str(condition["message"]) if same else ""

        return eventually(look, within_s=within_s, what=f"{kind}={status} {reason} of {name}")

    def revision(
        self,
        name: str = "ada",
        space: str | None = None,
        *,
        other_than: str = "",
        within_s: float = 30.0,
    ) -> str:
        """Wait for the active revision of the present generation."""

        def look() -> str:
            found = self.status(name, space)
            revision = str(found.get("activeRevision", ""))
            current = found.get("observedGeneration") == found["generation"]
            return revision if current and revision != other_than else ""

        return eventually(look, within_s=within_s, what=f"a revision of {name}")

    def wait_for_the_next_second(self, older: str = "ada") -> None:
        """Creation times have whole seconds; within one the uid decides, which no test can choose."""
        first = self.api.find(agent_path(self.space, older))
        assert first is not None
        stamp = first["metadata"]["creationTimestamp"]

        def later() -> bool:
            clock = {"metadata": {"name": "clock"}}
            answer = self.api.create(config_maps_path(self.space), clock, dryRun="All")
            return bool(answer.json()["metadata"]["creationTimestamp"] > stamp)

        eventually(later, what="the next second")

    def config_maps(self, space: str | None = None) -> dict[str, dict[str, Any]]:
        found = self.api.list(config_maps_path(space or self.space), SELECTOR)
        return {item["metadata"]["name"]: item for item in found}

    def relabel(self, space: str, tenant: str | None) -> None:
        change = {"metadata": {"labels": {TENANT_LABEL: tenant}}}
        assert self.api.merge(f"/api/v1/namespaces/{space}", change).is_success

    def events(self, name: str = "ada", space: str | None = None) -> list[str]:
        """Give the reasons of an Agent's Events, as ``kubectl describe`` lists them."""
        text = self.cluster.kubectl("describe", "agent", name, f"--namespace={space or self.space}")
        return [
            line.split()[1] for line in text.partition("\nEvents:")[2].splitlines() if "konstruct-op" in line
        ]

    def version(self) -> int:
        """Return the newest resource version of the served Agents, as a worker sees it."""
        listed = self.api._client.get(agents_path(None)).raise_for_status().json()
        return int(listed["metadata"]["resourceVersion"])

    # --- what was asked of the API server ---

    def writes(self, since: int = 0) -> list[tuple[str, str, str]]:
        """Give verb, resource and name of the operator's writes for this stage, claims and Events apart.

        A cluster-wide operator also meets Agents of earlier tests, whose namespaces are just going.
        """
        user = f"system:serviceaccount:{self.home}:"
        own = (self.home, *self.spaces)
        return [
            (
                event["verb"],
                "/".join(
                    filter(None, [event["objectRef"]["resource"], event["objectRef"].get("subresource")])
                ),
                event["objectRef"].get("name", ""),
            )
            for event in self.cluster.audit_events()[since:]
            if event["user"]["username"].startswith(user)
            and event["verb"] not in ("get", "list", "watch")
            and event["objectRef"].get("namespace") in own
            and event["objectRef"]["resource"] not in ("leases", "events")
        ]

    def audited(self) -> int:
        return len(self.cluster.audit_events())
