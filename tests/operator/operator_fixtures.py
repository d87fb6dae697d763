"""The stage that operators run on, in the cluster of the session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.models import TENANT_LABEL
from tests.operator.operator_stage import AdminApi, OperatorStage, install_crd
from tests.support.control_plane import ControlPlane
from tests.support.kubernetes import MakeNamespace


@pytest.fixture(scope="session")
def agent_resource(control_plane: ControlPlane) -> None:
    """Install the Agent resource, and let the garbage collector know of it."""
    install_crd(control_plane)
    control_plane.restart_controllers()


@pytest.fixture
def operator_stage(
    request: pytest.FixtureRequest,
    agent_resource: None,
    control_plane: ControlPlane,
    make_namespace: MakeNamespace,
    helm: Path,
    tmp_path: Path,
) -> Iterator[OperatorStage]:
    """Set up a release and two namespaces of tenants; the operator serves a list of namespaces by default."""
    api = AdminApi(control_plane)
    made = OperatorStage(
        cluster=control_plane,
        api=api,
        helm=helm,
        folder=tmp_path,
        home=make_namespace(),
        spaces=(make_namespace(), make_namespace()),
        clusterwide=getattr(request, "param", False),
    )
    for space in made.spaces:
        api.merge(f"/api/v1/namespaces/{space}", {"metadata": {"labels": {TENANT_LABEL: space}}})
    with made.end:
        yield made.prepare()
    api.close()
