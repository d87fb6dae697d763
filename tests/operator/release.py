"""A release of the chart in a cluster without nodes: its namespaces, and the rights of its parts."""

from __future__ import annotations

from pathlib import Path

from shared.models import TENANT_LABEL
from tests.chart.rendering import ENVIRONMENTS, render_chart
from tests.operator.operator_stage import AdminApi, OperatorStage, install_crd
from tests.support.control_plane import ControlPlane
from tests.support.toolchain import tool


def released(
    plane: ControlPlane,
    api: AdminApi,
    folder: Path,
    home: str,
    tenants: tuple[str, ...],
    *,
    clusterwide: bool = True,
) -> OperatorStage:
    """Make the release's namespace and the tenants', and grant the operator and the workers their rights.

    The operator watches the whole cluster, or not `clusterwide` the tenants' namespaces.
    """
    install_crd(plane)
    for name in (home, *tenants):
        labels = {TENANT_LABEL: name} if name in tenants else {}
        plane.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    rights = render_chart(
        ENVIRONMENTS["dev"],
        release=home,
        namespace=home,
        options=("--show-only", "templates/worker/rbac.yaml"),
    )
    plane.apply(*rights)
    made = OperatorStage(plane, api, tool("helm"), folder, home, tenants, clusterwide, release=home)
    return made.prepare()
