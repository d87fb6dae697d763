"""Releases in a real API server: secrets kept, one owner of the CRD, what an uninstall leaves."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chart.rendering import CHART, ENVIRONMENTS
from tests.support.cluster import KubectlError
from tests.support.control_plane import ControlPlane

DEV = ("--values", str(ENVIRONMENTS["dev"]))


@pytest.fixture(scope="module")
def cluster(control_plane_tools: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Run a control plane of this module's own: the CRD in it belongs to these releases."""
    with ControlPlane(tmp_path_factory.mktemp("releases")) as made:
        yield made


def run(helm: Path, cluster: ControlPlane, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [helm, *arguments],
        env=cluster.environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def secret(cluster: ControlPlane) -> dict[str, str]:
    found: dict[str, str] = cluster.get("secret", "konstruct-generated", "--namespace=one")["data"]
    return found


def test_the_life_of_two_releases(helm: Path, cluster: ControlPlane) -> None:
    install = ("upgrade", "--install", "konstruct", str(CHART), *DEV, "--create-namespace")

    first = run(helm, cluster, *install, "--namespace", "one")
    assert first.returncode == 0, first.stderr
    assert "helm test konstruct --namespace one" in first.stdout
    passwords = secret(cluster)
    jobs = cluster.get("jobs", "--namespace=one")["items"]
    assert [job["metadata"]["name"] for job in jobs] == ["konstruct-migration-1"]

    # An upgrade keeps what was made, whatever Kubernetes and Helm version renders it.
    again = run(helm, cluster, *install, "--namespace", "one", "--set", "worker.replicas=3")
    assert again.returncode == 0, again.stderr
    assert secret(cluster) == passwords
    jobs = cluster.get("jobs", "--namespace=one")["items"]
    assert [job["metadata"]["name"] for job in jobs if "deletionTimestamp" not in job["metadata"]] == [
        "konstruct-migration-2"
    ]
    assert cluster.get("deployment", "konstruct-orchestrator", "--namespace=one")["spec"]["replicas"] == 3

    # The CRD belongs to the first release.
    second = run(helm, cluster, *install, "--namespace", "two")
    assert second.returncode != 0
    assert "invalid ownership metadata" in second.stderr
    second = run(helm, cluster, *install, "--namespace", "two", "--set", "crds.install=false")
    assert second.returncode == 0, second.stderr

    notes = run(helm, cluster, "get", "notes", "konstruct", "--namespace", "one").stdout
    for claim in ("data-konstruct-postgresql-0", "data-konstruct-redis-0"):
        assert claim in notes
    for namespace in ("one", "two"):
        gone = run(helm, cluster, "uninstall", "konstruct", "--namespace", namespace)
        assert gone.returncode == 0, gone.stderr
    assert (
        cluster.get("crd", "agents.konstruct.dev")["metadata"]["annotations"]["helm.sh/resource-policy"]
        == "keep"
    )
    left = "deployments,statefulsets,services,jobs,secrets,networkpolicies,roles,rolebindings"
    for namespace in ("one", "two"):
        for found in cluster.get(left, f"--namespace={namespace}")["items"]:
            assert "deletionTimestamp" in found["metadata"], json.dumps(found["metadata"])
    everywhere = cluster.get(
        "clusterroles,clusterrolebindings", "--selector=app.kubernetes.io/name=konstruct"
    )
    assert everywhere["items"] == []

    # A later release of that name takes the CRD up again.
    back = run(helm, cluster, *install, "--namespace", "one")
    assert back.returncode == 0, back.stderr
    assert secret(cluster) != passwords


def test_people_get_their_rights_on_agents(helm: Path, cluster: ControlPlane) -> None:
    run(
        helm,
        cluster,
        "upgrade",
        "--install",
        "konstruct",
        str(CHART),
        *DEV,
        "--namespace",
        "one",
        "--create-namespace",
    )
    cluster.kubectl("create", "rolebinding", "eve", "--clusterrole=edit", "--user=eve", "--namespace=one")

    def may(*what: str) -> bool:
        try:
            return cluster.kubectl("auth", "can-i", *what, "--as=eve", "--namespace=one").strip() == "yes"
        except KubectlError:
            return False

    assert may("create", "agents.konstruct.dev")
    assert not may("patch", "agents.konstruct.dev", "--subresource=status")
