"""The stage that workers run on, in the cluster of the session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.operator.worker_api import Api, Operator
from tests.operator.worker_stage import AGENT_RULES, Stage
from tests.support.control_plane import ControlPlane
from tests.support.kubernetes import MakeNamespace
from tests.support.worker import Cell

CRD = Path(__file__).parents[2] / "charts" / "konstruct" / "files" / "agents.konstruct.dev.yaml"
"""The Agent resource, as the chart installs it."""


@pytest.fixture
def stage(control_plane: ControlPlane, make_namespace: MakeNamespace, cell: Cell) -> Iterator[Stage]:
    """Set up a tenant's namespace, and a worker's account with the rights of the namespaced mode."""
    control_plane.apply(CRD.read_text())
    control_plane.kubectl("wait", "--for=condition=Established", "crd/agents.konstruct.dev", "--timeout=30s")
    release, tenant = make_namespace(), make_namespace()
    control_plane.kubectl("create", "serviceaccount", "worker", f"--namespace={release}")
    api = Api(control_plane)
    made = Stage(
        cluster=control_plane,
        api=api,
        operator=Operator(api),
        cell=cell,
        release=release,
        tenant=tenant,
        kubeconfig=control_plane.kubeconfig_for(release, "worker"),
        namespaces=(tenant,),
    )
    with made.end:
        made.end.callback(api.close)
        made.grant_leases()
        made.grant(tenant, AGENT_RULES)
        yield made
