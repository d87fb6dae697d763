"""Objects of the cluster that people write: whatever stands in one, its reader goes on to the next.

The API server bounds what they may say, and an older or looser resource definition bounds less: so they are
damaged here beyond what any would store. A reader that raises would end or hold up the loop that it is in.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from konstruct_operator.agents import AgentStore
from konstruct_operator.config_maps import KnownConfigMap, config_maps, fingerprint, fingerprint_alone
from konstruct_operator.events import notices
from konstruct_operator.planning import plan, target_of
from konstruct_operator.rendered import MOST_OF_ONE, RenderedStore
from konstruct_operator.roster import Roster, tenant_label
from konstruct_operator.status import Outcome, build_status
from konstruct_operator.workers import Workers
from orchestrator.cluster.claims import Claim
from shared.kube.leases import Refusal, WorkerLease, WorkerState, told_of
from shared.kube.names import STATE_ANNOTATION, config_map_name, config_map_path
from shared.kube.objects import StoredAgent, agent_alone, micro_time
from shared.models import TENANT_LABEL, AgentSpec
from shared.persona import render
from tests.support.fuzzing import tries
from tests.support.strategies import damaged, json_values, strange_texts

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SPEC = {"displayName": "Ada", "systemPrompt": "Help."}
RENDERED = render(AgentSpec.model_validate(SPEC))

METADATA: dict[str, Any] = {
    "namespace": "acme",
    "name": "ada",
    "uid": "0f",
    "creationTimestamp": "2026-01-01T00:00:00Z",
    "resourceVersion": "7",
    "generation": 1,
}

CONDITION = {
    "type": "ConfigSynced",
    "status": "True",
    "reason": "WorkersSynced",
    "message": "1/1 workers",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
    "observedGeneration": 1,
}

STATUS = {
    "observedGeneration": 1,
    "observedTime": "2026-01-01T00:00:00.000001Z",
    "activeRevision": RENDERED.revision,
    "tenantId": "acme",
    "promptSha256": "00",
    "transparencyClause": "1",
    "conditions": [CONDITION, {**CONDITION, "type": "Accepted"}, {**CONDITION, "type": "Ready"}],
}


@given(spec=damaged(SPEC) | json_values, status=damaged(STATUS) | json_values)
@example(SPEC, {**STATUS, "conditions": [{"status": "True"}]})
@example(SPEC, {**STATUS, "conditions": ["Ready", None, 7]})
@example(SPEC, {**STATUS, "conditions": [{"type": "ConfigSynced"}]})
@example(SPEC, {**STATUS, "conditions": [{"type": {"a": 1}}]})
@example(SPEC, {**STATUS, "conditions": {"type": "Ready"}})
@example(SPEC, {**STATUS, "observedTime": "0001-01-01T00:00:00Z"})
@example({**SPEC, "role": "\ud800"}, {**STATUS, "promptSha256": "\ud800"})
@example("no spec", {**STATUS, "promptSha256": {"a": [1]}})
@tries(120)
def test_the_operator_plans_for_every_agent_whatever_its_status_says(spec: Any, status: Any) -> None:
    item = {"metadata": METADATA, "spec": spec, "status": status}
    store, roster = AgentStore(), Roster()
    assert store.put(item) is not None
    found = store.get(("acme", "ada"))
    assert found is not None
    agent, observed = found
    roster.put(agent.ref, agent.seniority)
    roster.set_label("acme", "acme")
    verdict = roster.verdict(agent.ref)
    target = target_of(agent, verdict)
    sync = Workers(30).verdict(agent.ref, "r", None, 0.0)
    planned = plan(agent, verdict, target, (), sync=sync, observed=observed, now=NOW)
    told = planned.status or agent.status
    given_up = build_status(
        agent, verdict, Outcome(target.active, failure="no"), sync=sync, observed=observed, now=NOW
    )
    for written in (told, given_up):
        if written is not agent.status:
            list(notices(agent.status, written))
            assert {condition["type"] for condition in written["conditions"]} >= {"Ready", "Accepted"}
            texts = [text for condition in written["conditions"] for text in condition.values()]
            assert all(isinstance(text, str | int) for text in texts)
            assert len(written["observedTime"]) == len(micro_time(NOW))
    # What was read of it once is read again as the same.
    assert StoredAgent.of(agent_alone(item)).status == (status if isinstance(status, dict) else {})


@given(revision=strange_texts | json_values)
@example("../../../pods?x#")
@example("a b\n")
@example("%2e%2e")
@tries(80)
def test_no_revision_leads_to_another_path(revision: Any) -> None:
    status = {**STATUS, "activeRevision": revision}
    claim = Claim.of(StoredAgent.of({"metadata": METADATA, "spec": SPEC, "status": status}))
    if claim is not None:
        path = config_map_path("acme", config_map_name("ada", "persona", claim.revision))
        assert path.removeprefix("/api/v1/namespaces/acme/configmaps/ada-persona-").isalnum()
        assert path.isascii()


GENUINE = config_maps(
    StoredAgent.of({"metadata": METADATA, "spec": SPEC, "status": STATUS}), "acme", RENDERED
)[0]


def stored(**changes: Any) -> dict[str, Any]:
    metadata = {**GENUINE["metadata"], **{k: v for k, v in METADATA.items() if k != "name"}}
    return {**GENUINE, "metadata": metadata, **changes}


texts = st.dictionaries(strange_texts, strange_texts, max_size=4)
owners = st.lists(st.dictionaries(st.sampled_from(["kind", "name", "uid", "controller"]), strange_texts))


@given(data=texts, binary=texts, labels=texts, owners=owners, immutable=st.booleans() | st.none())
@tries(80)
def test_no_config_map_of_our_label_is_more_than_wrong(
    data: Any, binary: Any, labels: Any, owners: Any, immutable: Any
) -> None:
    item = stored(data=data, binaryData=binary, immutable=immutable)
    item["metadata"] |= {"labels": labels, "ownerReferences": owners, "annotations": labels}
    slim = fingerprint_alone(item)
    assert KnownConfigMap.of(slim) == KnownConfigMap.of(item)
    assert KnownConfigMap.of(slim).fingerprint != fingerprint(GENUINE)
    assert len(str(slim)) < 500
    store = RenderedStore()
    store.put(slim)
    assert store.holds("acme", GENUINE["metadata"]["name"])


def test_of_however_many_config_maps_of_one_agent_a_bounded_number_is_kept() -> None:
    store = RenderedStore()
    for number in range(2 * MOST_OF_ONE):
        item = stored()
        item["metadata"] |= {"name": config_map_name("ada", "persona", f"{number:016x}")}
        store.put(item)
    assert len(store.of(("acme", "ada"))) == MOST_OF_ONE
    assert store.put(stored())  # the genuine one is noticed whenever it comes
    assert fingerprint(GENUINE) in {known.fingerprint for known in store.of(("acme", "ada"))}


@given(labels=st.none() | texts, label=st.none() | strange_texts)
@tries(50)
def test_a_namespace_has_a_tenant_or_none(labels: Any, label: Any) -> None:
    found = labels if label is None else {**(labels or {}), TENANT_LABEL: label}
    roster = Roster()
    roster.put(("acme", "ada"), (NOW, "0f"))
    roster.set_label("acme", tenant_label({"metadata": {"name": "acme", "labels": found}}))
    verdict = roster.verdict(("acme", "ada"))
    assert verdict.accepted == (verdict.tenant_id is not None)


STATE = {"seen": {"*": 7}, "refused": [], "refused_total": 0, "hidden": [], "clause": "1"}


@given(state=damaged(STATE) | json_values, text=st.none() | strange_texts)
@tries(80)
def test_a_state_that_cannot_be_read_is_that_of_a_worker_that_saw_nothing(state: Any, text: Any) -> None:
    said = json.dumps(state) if text is None else text
    lease = WorkerLease.of({"metadata": {**METADATA, "annotations": {STATE_ANNOTATION: said}}, "spec": None})
    lease.state.has_applied("acme", 7)


@given(st.lists(st.tuples(st.sampled_from(["acme", "globex", "initech"]), st.integers(0, 200)), max_size=300))
@tries(50)
def test_however_many_of_one_namespace_are_refused_the_others_stay_exact(pairs: list[Any]) -> None:
    refusals = [Refusal(namespace=where, name=f"a{n}", revision="r", reason="no") for where, n in pairs]
    named, hidden = told_of(refusals)
    state = WorkerState(seen={"*": 7}, refused=named, refused_total=len(refusals), hidden=hidden)
    for namespace in ("acme", "globex", "initech"):
        of_it = [refusal for refusal in refusals if refusal.namespace == namespace]
        assert state.has_applied(namespace, 7) == (namespace not in hidden)
        if len(of_it) <= 6:  # a third of the room there is
            assert namespace not in hidden
