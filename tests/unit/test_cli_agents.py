"""Agents and workers' Leases as ``konstruct status`` reads them inside a cluster."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from konstruct_cli.cluster.agents import look_at_agents, summarise
from shared.config import Settings
from shared.kube.leases import Refusal, WorkerLease, WorkerState, lease_manifest
from shared.kube.objects import StoredAgent

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def lease(name: str, seen: dict[str, int], *, age_s: float = 1, **state: Any) -> WorkerLease:
    manifest = lease_manifest(
        name=name,
        namespace="konstruct",
        pod_uid=None,
        release="konstruct",
        duration_s=30,
        renewed=NOW - timedelta(seconds=age_s),
        state=WorkerState(seen=seen, **state),
        released=name == "stopped",
    )
    manifest["metadata"]["uid"] = name
    return WorkerLease.of(manifest)


def agent(revision: str | None = "r1", ready: str = "True") -> StoredAgent:
    conditions = [
        {"type": "Accepted", "status": "True", "reason": "Accepted"},
        {"type": "ConfigSynced", "status": ready, "reason": "WorkersPending"},
        {"type": "Ready", "status": ready, "reason": "NotAccepted"},
    ]
    metadata = {
        "name": "ada",
        "namespace": "acme",
        "uid": "u",
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "resourceVersion": "10",
    }
    status = {"activeRevision": revision, "tenantId": "acme-inc", "conditions": conditions}
    return StoredAgent.of({"metadata": metadata, "status": status})


def test_only_live_workers_that_applied_the_agent_are_counted() -> None:
    refused = Refusal(namespace="acme", name="ada", revision="r1", reason="no")
    leases = [
        lease("good", {"*": 10}),
        lease("good-too", {"acme": 11}),
        lease("behind", {"*": 9}),
        lease("elsewhere", {"globex": 99}),
        lease("refusing", {"*": 10}, refused=(refused,), refused_total=1),
        lease("refusing-many", {"*": 10}, refused_total=1),
        lease("silent", {"*": 10}, age_s=31),
        lease("stopped", {"*": 10}),
    ]
    found = summarise([agent()], leases, NOW)
    assert (found.workers, found.silent) == (7, ["silent"])
    (ada,) = found.agents
    assert (ada.synced, ada.ready, ada.reason, ada.tenant_id) == (2, True, "", "acme-inc")


def test_an_agent_without_a_revision_is_in_effect_nowhere_and_says_why() -> None:
    (ada,) = summarise([agent(None, ready="False")], [lease("good", {"*": 10})], NOW).agents
    assert (ada.synced, ada.ready, ada.reason) == (0, False, "WorkersPending")


def test_agents_of_a_folder_are_not_looked_for_in_a_cluster(tmp_path: Path) -> None:
    inside = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    assert look_at_agents(Settings(pod_namespace="konstruct"), {}) is None
    assert look_at_agents(Settings(pod_namespace="konstruct", agents_dir=tmp_path), inside) is None
    assert look_at_agents(Settings(), inside) is None
    found = look_at_agents(Settings(pod_namespace="konstruct", kubeconfig=tmp_path / "none"), {})
    assert found is not None
    assert found.problem
