"""What each ServiceAccount of the chart may do, as a real API server decides, and that it may nothing else.

Every verb on every resource below is asked for, for each account, in each place, as ``kubectl auth can-i``
would; the answers are compared whole.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.chart.rendering import IN_CHART, component, kinds, render_chart
from tests.operator.operator_stage import AdminApi
from tests.support.control_plane import ControlPlane
from tests.support.kubernetes import MakeNamespace

VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
READ = frozenset(VERBS[:3])

RESOURCES = {
    "agents": ("konstruct.dev", ""),
    "agents/status": ("konstruct.dev", ""),
    "configmaps": ("", ""),
    "secrets": ("", ""),
    "pods": ("", ""),
    "pods/exec": ("", ""),
    "pods/log": ("", ""),
    "serviceaccounts": ("", ""),
    "serviceaccounts/token": ("", ""),
    "events": ("", ""),
    "leases": ("coordination.k8s.io", ""),
    "leases of claims": ("coordination.k8s.io", "konstruct-operator"),
    "deployments": ("apps", ""),
    "jobs": ("batch", ""),
    "roles": ("rbac.authorization.k8s.io", ""),
    "rolebindings": ("rbac.authorization.k8s.io", ""),
    "namespaces": ("", ""),
}
"""Resources in a namespace: their group, and the name of the one that is meant."""

CLUSTER_RESOURCES = {
    "namespaces": ("", ""),
    "nodes": ("", ""),
    "clusterroles": ("rbac.authorization.k8s.io", ""),
    "clusterrolebindings": ("rbac.authorization.k8s.io", ""),
    "customresourcedefinitions": ("apiextensions.k8s.io", ""),
}
"""Resources without a namespace."""

WORKER = {"agents": READ, "configmaps": {"get"}}
"""What a worker may where Agents are."""

WORKER_AT_HOME = {"leases": {"create", "list", "patch", "delete"}}
"""What a worker may in its own namespace; of any name, so of a claim's too."""

CLAIM = frozenset({"create", "get", "patch", "delete"})

OPERATOR = {
    "agents": READ,
    "agents/status": {"get", "patch"},
    "configmaps": READ | {"create", "patch", "delete"},
    "events": {"create"},
    "leases": {"create"},
    "leases of claims": CLAIM,
}
"""What the operator may where Agents are."""

OPERATOR_AT_HOME = {"leases": READ}
"""What the operator may in its own namespace: read the workers' Leases."""

EVERYBODY = {"selfsubjectreviews", "selfsubjectaccessreviews", "selfsubjectrulesreviews"}
"""What whoever is authenticated may: ask about their own rights."""

Rights = dict[str, frozenset[str]]


@dataclass
class Release:
    """The accounts and roles of one release, as the API server knows them."""

    api: AdminApi
    home: str
    watched: str
    other: str
    """A namespace that has nothing to do with the release."""
    clusterwide: bool
    accounts: dict[str, str]
    """Name of the ServiceAccount of each component."""
    own_role: str
    """Name of the operator's own role where Agents are."""

    def may(self, account: str, verb: str, **attributes: str) -> bool:
        resource, _, subresource = attributes.pop("resource").partition("/")
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": f"system:serviceaccount:{self.home}:{self.accounts[account]}",
                "groups": [
                    "system:serviceaccounts",
                    f"system:serviceaccounts:{self.home}",
                    "system:authenticated",
                ],
                "resourceAttributes": {
                    "verb": verb,
                    "resource": resource,
                    "subresource": subresource,
                    **attributes,
                },
            },
        }
        answer = self.api.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
        assert answer.is_success, answer.text
        return bool(answer.json()["status"]["allowed"])

    def rights(self, account: str, namespace: str) -> Rights:
        """All that an account may in a namespace, or without one."""
        resources = RESOURCES if namespace else CLUSTER_RESOURCES
        found = {
            label: frozenset(
                verb
                for verb in VERBS
                if self.may(
                    account,
                    verb,
                    resource=label.partition(" ")[0],
                    group=group,
                    name=name,
                    namespace=namespace,
                )
            )
            for label, (group, name) in resources.items()
        }
        return {label: verbs for label, verbs in found.items() if verbs}

    def rules(self, account: str, namespace: str) -> set[str]:
        """All resources that an account may do anything with, in a namespace or in the cluster."""
        answer = self.api._client.post(
            "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
            json={
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectRulesReview",
                "spec": {"namespace": namespace},
            },
            headers={"Impersonate-User": f"system:serviceaccount:{self.home}:{self.accounts[account]}"},
        ).raise_for_status()
        status = answer.json()["status"]
        assert not status["incomplete"], status
        return {resource for rule in status["resourceRules"] for resource in rule["resources"]}


@pytest.fixture(params=[True, False], ids=["cluster", "namespaces"])
def release(
    request: pytest.FixtureRequest, helm: None, control_plane: ControlPlane, make_namespace: MakeNamespace
) -> Iterator[Release]:
    """Install the accounts and roles of a release that watches everything, or one namespace."""
    home, watched, other = (make_namespace() for _ in range(3))
    values: dict[str, Any] = {"watch": {"namespaces": [] if request.param else [watched]}}
    made = render_chart(IN_CHART, values, namespace=home)
    rbac = kinds(made, "ServiceAccount", "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")
    control_plane.apply(*rbac)
    api = AdminApi(control_plane)
    yield Release(
        api=api,
        home=home,
        watched=watched,
        other=other,
        clusterwide=request.param,
        accounts={component(one): one["metadata"]["name"] for one in kinds(made, "ServiceAccount")},
        own_role=f"{home}-konstruct-operator",
    )
    api.close()
    for one in kinds(made, "ClusterRole", "ClusterRoleBinding"):
        control_plane.kubectl("delete", one["kind"], one["metadata"]["name"])


def merged(*parts: dict[str, Any]) -> Rights:
    """Add rights up; whoever may something with any Lease may it with a claim's."""
    found: dict[str, set[str]] = {}
    for label, verbs in itertools.chain.from_iterable(part.items() for part in parts):
        found.setdefault(label, set()).update(verbs)
    if "leases" in found:
        found.setdefault("leases of claims", set()).update(found["leases"])
    return {label: frozenset(verbs) for label, verbs in found.items()}


@pytest.mark.parametrize(
    ("account", "anywhere", "at_home"),
    [("worker", WORKER, WORKER_AT_HOME), ("operator", OPERATOR, OPERATOR_AT_HOME)],
)
def test_worker_and_operator_may_this_and_nothing_else(
    release: Release, account: str, anywhere: dict[str, Any], at_home: dict[str, Any]
) -> None:
    wide = release.clusterwide
    namespaces: dict[str, Any] = {}
    if account == "operator":
        # A Role may name its own Namespace; a ClusterRole all of them.
        namespaces = {"namespaces": READ if wide else {"get"}}
    assert release.rights(account, release.watched) == merged(anywhere, namespaces)
    assert release.rights(account, release.other) == (merged(anywhere, namespaces) if wide else {})
    assert release.rights(account, release.home) == (
        merged(anywhere, namespaces, at_home) if wide else merged(at_home)
    )
    assert release.rights(account, "") == (merged(namespaces) if wide else {})


def test_the_operator_reads_its_own_role_alone(release: Release) -> None:
    for name, expected in ((release.own_role, True), ("cluster-admin", False)):
        asked = {"group": "rbac.authorization.k8s.io", "name": name}
        if release.clusterwide:
            asked |= {"resource": "clusterroles", "namespace": ""}
        else:
            asked |= {"resource": "roles", "namespace": release.watched}
        assert release.may("operator", "get", **asked) is expected
        for verb in ("update", "patch", "delete", "escalate", "bind"):
            assert not release.may("operator", verb, **asked)
        assert not release.may("worker", "get", **asked)


def test_the_others_may_nothing(release: Release) -> None:
    others = set(release.accounts) - {"worker", "operator"}
    assert others == {"llm-pool", "migration", "postgresql", "redis", "test"}
    for account in sorted(others):
        for namespace in (release.home, release.watched):
            assert release.rules(account, namespace) == EVERYBODY, (account, namespace)
    assert release.rules("worker", release.home) > EVERYBODY  # which shows that rules are told


def test_nobody_acts_as_another(release: Release) -> None:
    for account in release.accounts:
        for resource in ("users", "groups", "serviceaccounts"):
            for namespace in ("", release.home):
                asked = {"resource": resource, "group": "", "namespace": namespace}
                assert not release.may(account, "impersonate", **asked)
