"""The rights that the chart gives: as few as the parts need, and none to choose what an agent says."""

from __future__ import annotations

import pytest

from tests.chart.rendering import IN_CHART, VALUES, Manifest, component, kinds, named, render_chart, rules

READ = {"get", "list", "watch"}
NAMESPACES = ["tenant-a", "tenant-b"]


def rights(manifests: list[Manifest], of: str) -> set[tuple[str, str]]:
    """List (resource, verb) of a component, in all of its roles."""
    return {
        (resource, verb)
        for role, rule in rules(manifests)
        if component(role) == of
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_no_wildcards_and_no_secrets(manifests: list[Manifest]) -> None:
    for role, rule in rules(manifests):
        words = {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
        assert not words & {"*", "secrets", "pods/exec", "impersonate", "escalate", "bind"}, role["metadata"]


def test_the_worker_reads() -> None:
    made = render_chart(IN_CHART)
    assert rights(made, "worker") == {
        *(("agents", verb) for verb in READ),
        ("configmaps", "get"),
        *(("leases", verb) for verb in ("create", "list", "patch", "delete")),
    }


@pytest.mark.parametrize("namespaces", [[], NAMESPACES])
def test_the_operator_writes_status_and_its_own_config_maps(namespaces: list[str]) -> None:
    made = render_chart(IN_CHART, {"watch.namespaces": namespaces})
    assert rights(made, "operator") == {
        *(("agents", verb) for verb in READ),
        *(("agents/status", verb) for verb in ("get", "patch")),
        *(("configmaps", verb) for verb in (*READ, "create", "patch", "delete")),
        *(("namespaces", verb) for verb in (["get"] if namespaces else READ)),
        ("events", "create"),
        ("roles" if namespaces else "clusterroles", "get"),
        *(("leases", verb) for verb in (*READ, "create", "patch", "delete")),
        ("roles" if namespaces else "clusterroles", "get"),  # itself, as the owner of its claims
    }


def test_nobody_but_the_operator_writes_status(manifests: list[Manifest]) -> None:
    for role, rule in rules(manifests):
        if "agents/status" in rule["resources"]:
            assert component(role) == "operator"


def test_the_operator_changes_only_the_lease_of_its_claim(manifests: list[Manifest]) -> None:
    for role, rule in rules(manifests):
        if component(role) == "operator" and rule["resources"] == ["leases"]:
            changing = set(rule["verbs"]) - READ - {"create"}
            assert not changing or rule["resourceNames"] == ["konstruct-operator"]


def test_the_operator_reads_no_role_but_its_own(manifests: list[Manifest]) -> None:
    for role, rule in rules(manifests):
        if {"roles", "clusterroles"} & set(rule["resources"]):
            assert (component(role), rule["resourceNames"]) == ("operator", [role["metadata"]["name"]])
            assert rule["verbs"] == ["get"]


def test_only_worker_and_operator_are_bound(manifests: list[Manifest]) -> None:
    roles = {(one["kind"], one["metadata"]["name"]) for one in kinds(manifests, "Role", "ClusterRole")}
    for binding in kinds(manifests, "RoleBinding", "ClusterRoleBinding"):
        (subject,) = binding["subjects"]
        assert subject["kind"] == "ServiceAccount"
        assert subject["name"].endswith(("-worker", "-operator"))
        assert subject["namespace"] == "konstruct"
        assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) in roles


def test_namespaced_mode_has_roles_only() -> None:
    made = render_chart(IN_CHART, {"watch.namespaces": NAMESPACES})
    assert kinds(made, "ClusterRole", "ClusterRoleBinding", "Namespace") == []
    for name in ("worker", "operator"):
        watched = {
            role["metadata"]["namespace"]
            for role, rule in rules(made)
            if component(role) == name and "agents" in rule["resources"]
        }
        assert watched == set(NAMESPACES)
    for role, rule in rules(made):
        if role["metadata"]["namespace"] not in NAMESPACES:
            assert rule["resources"] == ["leases"]


def test_people_get_agents_and_never_their_status() -> None:
    made = render_chart(IN_CHART)
    for name in ("admin", "edit", "view"):
        role = named(made, "ClusterRole", f"-agents-{name}")
        assert role["metadata"]["labels"][f"rbac.authorization.k8s.io/aggregate-to-{name}"] == "true"
        (rule,) = role["rules"]
        assert (rule["apiGroups"], rule["resources"]) == (["konstruct.dev"], ["agents"])
        assert (set(rule["verbs"]) == READ) is (name == "view")
    off = render_chart(IN_CHART, {"rbac.aggregate": False})
    assert not [one for one in kinds(off, "ClusterRole") if "-agents-" in one["metadata"]["name"]]


def identity(manifest: Manifest) -> tuple[str, str, str]:
    """Return what must differ between two objects of a cluster."""
    metadata = manifest["metadata"]
    return manifest["kind"], metadata.get("namespace", ""), metadata["name"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("one", "a"), ("two", "a")),
        (("same", "a"), ("same", "b")),
        # Longer than a name may be, and different only at the end.
        ((f"{'x' * 52}1", "a"), (f"{'x' * 52}2", "a")),
    ],
)
def test_two_releases_live_side_by_side(first: tuple[str, str], second: tuple[str, str]) -> None:
    made = [
        {
            identity(one)
            for one in render_chart(IN_CHART, {"crds.install": False}, release=release, namespace=namespace)
        }
        for release, namespace in (first, second)
    ]
    assert not made[0] & made[1]
    assert all(len(name) <= 63 for names in made for kind, _, name in names if "Role" not in kind)


def test_names_are_unique_within_a_release() -> None:
    for values in VALUES.values():
        names = [identity(one) for one in render_chart(values)]
        assert len(names) == len(set(names)), values.name
