"""The control plane that the other tests of this folder stand on is a real one, and the tests' own."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from tests.support.cluster import KubectlError
from tests.support.control_plane import ControlPlane
from tests.support.kubernetes import MakeNamespace
from tests.support.toolchain import pinned_version
from tests.support.waiting import eventually


def config_map(namespace: str, name: str, **more: object) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, **more},
        "data": {"tone": "dry"},
    }


def test_it_is_the_pinned_version(control_plane: ControlPlane) -> None:
    if "KUBEBUILDER_ASSETS" in os.environ:
        pytest.skip("KUBEBUILDER_ASSETS names an API server of another choice")
    assert f"Server Version: {pinned_version('kube-apiserver')}" in control_plane.kubectl("version")


def test_objects_are_kept_and_namespaces_are_apart(
    control_plane: ControlPlane, make_namespace: MakeNamespace
) -> None:
    here, elsewhere = make_namespace({"konstruct.dev/tenant-id": "acme"}), make_namespace()
    control_plane.apply(config_map(here, "ada"))
    assert control_plane.get("configmap", "ada", "-n", here)["data"] == {"tone": "dry"}
    assert control_plane.find("configmap", "ada", "-n", elsewhere) is None
    labels = control_plane.get("namespace", here)["metadata"]["labels"]
    assert labels["konstruct.dev/tenant-id"] == "acme"


def test_unknown_fields_are_refused(control_plane: ControlPlane, namespace: str) -> None:
    with pytest.raises(KubectlError, match="field not declared in schema"):
        control_plane.apply(config_map(namespace, "ada") | {"tone": "dry"})


def test_a_restarted_api_server_keeps_its_address_and_its_data(
    control_plane: ControlPlane, namespace: str
) -> None:
    control_plane.apply(config_map(namespace, "ada"))
    before, address = control_plane.pid(), control_plane.url
    control_plane.stop_apiserver()
    with pytest.raises(KubectlError, match="refused"):
        control_plane.get("configmap", "ada", "-n", namespace)
    control_plane.start_apiserver()
    assert control_plane.pid() != before
    assert control_plane.url == address
    assert control_plane.get("configmap", "ada", "-n", namespace)["data"] == {"tone": "dry"}


def test_a_service_account_may_do_what_its_role_says(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.apply(config_map(namespace, "ada"))
    control_plane.kubectl("create", "serviceaccount", "reader", "-n", namespace)
    control_plane.kubectl("create", "role", "reader", "--verb=get", "--resource=configmaps", "-n", namespace)
    control_plane.kubectl(
        "create",
        "rolebinding",
        "reader",
        "--role=reader",
        f"--serviceaccount={namespace}:reader",
        "-n",
        namespace,
    )
    reader = control_plane.kubeconfig_for(namespace, "reader")
    who = f"system:serviceaccount:{namespace}:reader"
    assert who in control_plane.kubectl("auth", "whoami", kubeconfig=reader)
    # Authorization learns of a new Role from a watch, a moment later.
    eventually(lambda: allowed(control_plane, reader, "get", "configmap", "ada", "-n", namespace))
    for refused in (
        ("get", "secrets", "-n", namespace),
        ("get", "configmap", "ada", "-n", "default"),
        ("delete", "configmap", "ada", "-n", namespace),
    ):
        with pytest.raises(KubectlError, match=f"Forbidden.*{who}"):
            control_plane.kubectl(*refused, kubeconfig=reader)


def allowed(cluster: ControlPlane, kubeconfig: Path, *arguments: str) -> bool:
    """Say whether kubectl can do this with that kubeconfig."""
    try:
        cluster.kubectl(*arguments, kubeconfig=kubeconfig)
    except KubectlError as error:
        if "Forbidden" not in str(error):
            raise
        return False
    return True


def test_a_deleted_owner_takes_its_dependants_along(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.apply(config_map(namespace, "owner"))
    uid = control_plane.get("configmap", "owner", "-n", namespace)["metadata"]["uid"]
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}
    control_plane.apply(config_map(namespace, "dependant", ownerReferences=[owner]))
    control_plane.apply(config_map(namespace, "bystander"))
    control_plane.kubectl("delete", "configmap", "owner", "-n", namespace)
    eventually(
        lambda: control_plane.find("configmap", "dependant", "-n", namespace) is None,
        what="the dependant's deletion",
    )
    assert control_plane.find("configmap", "bystander", "-n", namespace)


def test_the_audit_log_says_who_wrote_what(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.apply(config_map(namespace, "ada"))
    objects = [(event, event.get("objectRef", {})) for event in control_plane.audit_events()]
    written = [
        event
        for event, target in objects
        if target.get("resource") == "configmaps" and target.get("namespace") == namespace
    ]
    assert [(event["verb"], event["user"]["username"]) for event in written] == [("patch", "admin")]


def test_no_other_cluster_can_be_reached(
    control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not Path(os.environ["KUBECONFIG"]).exists()
    monkeypatch.setenv("KUBECONFIG", "/somebody/elses")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "192.0.2.1")
    environment = control_plane.environment()
    assert environment["KUBECONFIG"] == str(control_plane.kubeconfig)
    assert "KUBERNETES_SERVICE_HOST" not in environment
    assert not (Path(environment["HOME"]) / ".kube" / "config").exists()
    view = control_plane.kubectl("config", "view")
    assert view.count("server:") == 1
    assert control_plane.url in view


def test_nothing_runs_after_the_end(control_plane_tools: None, tmp_path: Path) -> None:
    with ControlPlane(tmp_path, controllers=()) as cluster:
        pids = cluster.pids()
        assert [psutil.Process(pid).name() for pid in pids] == ["etcd", "kube-apiserver"]
    assert not [pid for pid in pids if psutil.pid_exists(pid)]
