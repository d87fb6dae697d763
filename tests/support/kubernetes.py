"""Fixtures that need Kubernetes: a control plane, fresh namespaces in it, and the tools around it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import pytest

from tests.support.control_plane import ControlPlane
from tests.support.toolchain import tool

FIXTURE_TOOLS = {
    "control_plane": ("etcd", "kube-apiserver", "kube-controller-manager"),
    "control_plane_tools": ("etcd", "kube-apiserver", "kube-controller-manager"),
    "helm": ("helm",),
    "kubeconform": ("kubeconform",),
    "prometheus": ("prometheus",),
    "prometheus_operator": ("etcd", "kube-apiserver", "helm", "prometheus-operator"),
    "promtool": ("promtool",),
    "observed": ("etcd", "kube-apiserver", "kube-controller-manager", "helm", "prometheus"),
}
"""What must be built before a test that uses the fixture may begin."""


class MakeNamespace(Protocol):
    """Makes a namespace and returns its name."""

    def __call__(self, labels: Mapping[str, str] | None = None) -> str:
        """Make a namespace with these labels."""


def pytest_configure() -> None:
    """Hide every cluster that the tests did not make, from the tests and from what they start."""
    os.environ["KUBECONFIG"] = "/nonexistent/the-tests-use-only-clusters-that-they-made"
    for name in ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        os.environ.pop(name, None)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build what the collected tests need: a first build takes longer than any test may."""
    if session.config.option.collectonly:
        return
    fixtures = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    for name in sorted({name for fixture in fixtures for name in FIXTURE_TOOLS.get(fixture, ())}):
        tool(name)


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Run one control plane, with an audit log, for the whole session; leave it running as you found it."""
    with ControlPlane(tmp_path_factory.mktemp("control-plane"), audit=True) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def control_plane_tools() -> None:
    """For a test that starts a control plane of its own: the programs are built before it begins."""


@pytest.fixture
def make_namespace(control_plane: ControlPlane) -> Iterator[MakeNamespace]:
    """Return a function that makes namespaces; they are deleted after the test, without waiting."""
    made: list[str] = []

    def make(labels: Mapping[str, str] | None = None) -> str:
        name = f"test-{secrets.token_hex(4)}"
        metadata = {"name": name, "labels": dict(labels or {})}
        control_plane.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        made.append(name)
        return name

    yield make
    if made:
        control_plane.kubectl("delete", "namespace", *made, "--wait=false", "--ignore-not-found")


@pytest.fixture
def namespace(make_namespace: MakeNamespace) -> str:
    """Return the name of a fresh namespace without labels."""
    return make_namespace()


@pytest.fixture(scope="session")
def helm() -> Path:
    """Return the helm command."""
    return tool("helm")


@pytest.fixture(scope="session")
def kubeconform() -> Path:
    """Return the kubeconform command."""
    return tool("kubeconform")


@pytest.fixture(scope="session")
def prometheus() -> Path:
    """Return the prometheus command."""
    return tool("prometheus")


@pytest.fixture(scope="session")
def promtool() -> Path:
    """Return the promtool command."""
    return tool("promtool")
