"""Which Agent of the cluster is served under which name, and what the catalog holds meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.agents.catalog import AgentCatalog, Missing, ServedAgent
from orchestrator.cluster.claims import Claim, Claims
from shared.kube.objects import StoredAgent
from shared.models import AgentSpec
from shared.persona import render

KEY = ("acme", "ada")


def agent(
    namespace: str = "one", *, uid: str = "u1", created: str = "2026-01-01T00:00:00Z", **changes: Any
) -> StoredAgent:
    status = {
        "tenantId": "acme",
        "activeRevision": "r1",
        "conditions": [{"type": "Accepted", "status": "True"}],
        **changes.pop("status", {}),
    }
    metadata = {"namespace": namespace, "name": "ada", "uid": uid, "creationTimestamp": created}
    metadata |= {"resourceVersion": "1", **changes.pop("metadata", {})}
    return StoredAgent.of({"metadata": metadata, "spec": {}, "status": status, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"status": {"tenantId": None}},
        {"status": {"tenantId": "Not a tenant"}},
        {"status": {"activeRevision": ""}},
        {"status": {"conditions": []}},
        {"status": {"conditions": [{"type": "Accepted", "status": "False"}]}},
        {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}},
    ],
)
def test_what_is_not_served(changes: dict[str, Any]) -> None:
    assert Claim.of(agent(**changes)) is None
    claims = Claims()
    assert claims.put(agent()) == {KEY}
    assert claims.put(agent(**changes)) == {KEY}
    assert claims.chosen(KEY) is None


def test_the_oldest_is_served_and_the_next_takes_over() -> None:
    claims = Claims()
    claims.put(agent("two", uid="u2", created="2026-01-02T00:00:00Z"))
    claims.put(agent("one"))
    claims.put(agent("three", uid="u0"))  # the same second: the smaller uid
    order = []
    while (claim := claims.chosen(KEY)) is not None:
        order.append(claim.namespace)
        assert claims.remove(claim.ref) == {KEY}
    assert order == ["three", "one", "two"]
    assert claims.remove(("one", "ada")) == set()


def test_a_list_is_the_truth_of_its_namespace_only() -> None:
    claims = Claims()
    claims.put(agent("one"))
    claims.put(agent("two", uid="u2", status={"tenantId": "globex"}))
    assert claims.replace("two", []) == {("globex", "ada")}
    assert claims.chosen(KEY) is not None
    assert claims.replace(None, [agent("three", uid="u3")]) == {KEY}
    chosen = claims.chosen(KEY)
    assert chosen is not None
    assert chosen.namespace == "three"


def test_a_new_tenant_changes_both_names() -> None:
    claims = Claims()
    claims.put(agent())
    assert claims.put(agent(status={"tenantId": "globex"})) == {KEY, ("globex", "ada")}
    assert claims.chosen(KEY) is None


def served() -> ServedAgent:
    return ServedAgent.of(KEY, render(AgentSpec.model_validate({"displayName": "Ada"})))


def test_the_catalog_tells_why_an_agent_is_not_in_effect() -> None:
    catalog = AgentCatalog()
    assert catalog.look_up(*KEY) is Missing.NOT_YET
    catalog.complete = True
    assert catalog.look_up(*KEY) is Missing.UNKNOWN
    for why in (Missing.NOT_YET, Missing.SUSPENDED):
        catalog.remove(KEY, why)
        assert catalog.look_up(*KEY) is why
        assert (catalog.find(*KEY), len(catalog), dict(catalog.agents)) == (None, 0, {})
    agent = served()
    catalog.put(KEY, agent)
    assert (catalog.look_up(*KEY), catalog.find(*KEY), len(catalog)) == (agent, agent, 1)
    copy = catalog.agents
    catalog.remove(KEY)
    assert catalog.look_up(*KEY) is Missing.UNKNOWN
    assert KEY in copy
