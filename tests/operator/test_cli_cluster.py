"""The command from a laptop, against a real API server: the choice of a Pod, each missing right, an Agent.

There is no kubelet here, so a Pod is only what its status says, and nothing runs in it: the tests on a real
cluster exec into workers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from konstruct_cli.cluster.agents import look_at_agents
from shared.config import Settings
from shared.kube.leases import WorkerState, lease_manifest
from shared.kube.names import PARTS, config_map_name, document_key, documents_of
from shared.manifest import load_manifests
from shared.models import Agent
from shared.persona import Rendered, render
from tests.support.control_plane import ControlPlane
from tests.support.kubernetes import MakeNamespace
from tests.support.stack_command import Result, konstruct

ROOT = Path(__file__).parents[2]

CRD = ROOT / "charts" / "konstruct" / "files" / "agents.konstruct.dev.yaml"

ADA = ROOT / "examples" / "agents" / "acme" / "ada.yaml"

LIST = {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}


def exec_(*verbs: str) -> dict[str, Any]:
    return {"apiGroups": [""], "resources": ["pods/exec"], "verbs": list(verbs)}


@dataclass
class Laptop:
    """A person's account in one namespace."""

    cluster: ControlPlane
    namespace: str
    folder: Path
    kubeconfig: Path

    def grant(self, *rules: dict[str, Any]) -> None:
        metadata = {"name": "person", "namespace": self.namespace}
        api = "rbac.authorization.k8s.io"
        role = {"apiVersion": f"{api}/v1", "kind": "Role", "metadata": metadata, "rules": list(rules)}
        binding = {
            "apiVersion": f"{api}/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": api, "kind": "Role", "name": "person"},
            "subjects": [{"kind": "ServiceAccount", "name": "person", "namespace": self.namespace}],
        }
        self.cluster.apply(role, binding)

    def konstruct(self, command: str, *arguments: str) -> Result:
        where = ("--kubeconfig", str(self.kubeconfig), "--namespace", self.namespace)
        return konstruct(command, *where, *arguments, cwd=self.folder)

    def send(self, *arguments: str) -> Result:
        return self.konstruct("send", "--tenant", "acme", "--agent", "ada", "Hello", *arguments)

    def worker(self, name: str, *, release: str = "konstruct", ready: bool = True) -> None:
        labels = {"app.kubernetes.io/component": "worker", "app.kubernetes.io/instance": release}
        container = {"name": "worker", "image": "konstruct/orchestrator"}
        spec = {"containers": [container], "automountServiceAccountToken": False}
        metadata = {"name": name, "namespace": self.namespace, "labels": labels}
        self.cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        condition = {"type": "Ready", "status": str(ready)}
        where = (name, f"--namespace={self.namespace}", "--subresource=status", "--type=merge")
        patch = json.dumps({"status": {"conditions": [condition]}})
        self.cluster.kubectl("patch", "pod", *where, f"--patch={patch}")


@pytest.fixture
def laptop(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> Laptop:
    for name in ("default", "person"):  # Pods want the first, which a controller makes in its own time
        account = {"name": name, "namespace": namespace}
        control_plane.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})
    kubeconfig = control_plane.kubeconfig_for(namespace, "person")
    return Laptop(control_plane, namespace, tmp_path, kubeconfig)


@pytest.mark.parametrize(
    ("rules", "missing"),
    [
        ([], "list on pods, get and create on pods/exec"),
        ([LIST], "get and create on pods/exec there"),
        ([LIST, exec_("get")], "get and create on pods/exec there"),
        ([LIST, exec_("create")], "get and create on pods/exec there"),
    ],
)
def test_a_missing_right_is_named(laptop: Laptop, rules: Sequence[dict[str, Any]], missing: str) -> None:
    laptop.worker("worker-1")
    if rules:
        laptop.grant(*rules)
    result = laptop.send()
    assert (result.code, result.out) == (1, "")
    assert missing in result.err
    assert laptop.namespace in result.err


def test_with_these_rights_the_api_server_goes_to_the_pod(laptop: Laptop) -> None:
    laptop.worker("worker-1")
    laptop.worker("worker-2", ready=False)
    laptop.grant(LIST, exec_("get", "create"))
    result = laptop.send()
    # No node: that is as far as it comes here, and it says so.
    assert result.code == 1
    assert "400: websocket" in result.err
    assert "/pods/worker-1/exec" in result.err


def test_without_a_ready_worker_the_code_is_3(laptop: Laptop) -> None:
    laptop.grant(LIST)
    assert f"no worker runs in namespace {laptop.namespace}" in laptop.send().err
    laptop.worker("worker-1", ready=False)
    result = laptop.send()
    assert result.code == 3
    assert "is ready" in result.err
    assert "of release other" in laptop.send("--release", "other").err


def test_two_releases_in_a_namespace_must_be_told_apart(laptop: Laptop) -> None:
    laptop.grant(LIST)
    laptop.worker("worker-1", release="blue")
    laptop.worker("worker-2", release="green")
    result = laptop.send()
    assert result.code == 2
    assert "releases blue, green: choose one with --release" in result.err


def test_credentials_that_are_not_accepted_are_told_from_a_missing_right(laptop: Laptop) -> None:
    config = json.loads(laptop.kubeconfig.read_text())
    config["users"][0]["user"]["token"] = "not-a-token"
    laptop.kubeconfig.write_text(json.dumps(config))
    result = laptop.send()
    assert result.code == 1
    assert "does not accept these credentials" in result.err


# --- Agents ---


def stored_agent(laptop: Laptop) -> Rendered:
    """Apply an Agent, its documents and the status that points at them, as its operator does."""
    laptop.cluster.apply(CRD.read_text())
    laptop.cluster.kubectl("wait", "--for=condition=Established", "crd/agents.konstruct.dev", "--timeout=30s")
    manifest = yaml.safe_load(ADA.read_text())
    manifest["metadata"]["namespace"] = laptop.namespace
    (agent,) = load_manifests(json.dumps(manifest))
    assert isinstance(agent, Agent)
    rendered = render(agent.spec)
    laptop.cluster.apply(manifest)
    for part in PARTS:
        name = config_map_name("ada", part, rendered.revision)
        laptop.cluster.apply(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": name, "namespace": laptop.namespace},
                "data": {document_key(part): documents_of(rendered)[part]},
            }
        )
    patch = json.dumps({"status": {"activeRevision": rendered.revision, "tenantId": "acme-inc"}})
    where = ("ada", f"--namespace={laptop.namespace}", "--subresource=status", "--type=merge")
    laptop.cluster.kubectl("patch", "agents.konstruct.dev", *where, f"--patch={patch}")
    return rendered


READ = (
    {"apiGroups": ["konstruct.dev"], "resources": ["agents"], "verbs": ["get", "list"]},
    {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]},
)


def test_render_prints_what_the_cluster_serves(laptop: Laptop) -> None:
    rendered = stored_agent(laptop)
    refused = laptop.konstruct("render", "ada")
    assert refused.code == 1
    assert "cannot get resource" in refused.err
    laptop.grant(*READ)
    result = laptop.konstruct("render", "ada", "--json")
    assert result.code == 0, result.err
    (ada,) = json.loads(result.out)["agents"]
    file = konstruct("render", str(ADA), "--json", cwd=laptop.folder)
    (of_file,) = json.loads(file.out)["agents"]
    assert ada == {**of_file, "namespace": laptop.namespace, "tenant_id": "acme-inc"}
    assert ada["identity_json"] == rendered.identity_json
    assert laptop.konstruct("render", "eve").code == 2


def test_render_refuses_documents_that_are_not_of_the_revision(laptop: Laptop) -> None:
    rendered = stored_agent(laptop)
    laptop.grant(*READ)
    name = config_map_name("ada", "persona", rendered.revision)
    forged = json.dumps({"data": {"persona.json": "{}"}})
    laptop.cluster.kubectl(
        "patch", "configmap", name, f"--namespace={laptop.namespace}", "--type=merge", f"--patch={forged}"
    )
    result = laptop.konstruct("render", "ada")
    assert (result.code, result.out) == (1, "")
    assert "is not what its operator wrote" in result.err


def test_status_counts_the_workers_that_have_an_agent_in_effect(
    laptop: Laptop, make_namespace: MakeNamespace
) -> None:
    stored_agent(laptop)
    version = int(
        laptop.cluster.get("agents.konstruct.dev", "ada", f"--namespace={laptop.namespace}")["metadata"][
            "resourceVersion"
        ]
    )
    release = make_namespace()
    for name, seen in (("worker-1", version), ("worker-2", version - 1)):
        laptop.cluster.apply(
            lease_manifest(
                name=name,
                namespace=release,
                pod_uid=None,
                release="konstruct",
                duration_s=600,
                renewed=datetime.now(UTC),
                state=WorkerState(seen={laptop.namespace: seen}),
            )
        )
    settings = Settings(
        kubeconfig=laptop.cluster.kubeconfig, pod_namespace=release, watch_namespaces=(laptop.namespace,)
    )
    found = look_at_agents(settings)
    assert found is not None
    (ada,) = found.agents
    assert (found.problem, found.workers, found.silent) == (None, 2, [])
    assert (ada.agent, ada.tenant_id, ada.synced, ada.ready) == ("ada", "acme-inc", 1, False)
