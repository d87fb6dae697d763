"""Plans: what has to be written for an Agent, held to golden files and to rules that no golden file shows."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from konstruct_operator.config_maps import KnownConfigMap, config_maps
from konstruct_operator.events import notices
from konstruct_operator.planning import Plan, plan, target_of
from konstruct_operator.roster import Verdict
from konstruct_operator.status import Outcome, build_status, points_at
from konstruct_operator.workers import Sync
from shared.kube.objects import ConditionReason, StoredAgent
from shared.models import AgentSpec
from shared.persona import render

GOLDEN = Path(__file__).parents[1] / "operator" / "golden"
NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
ACCEPTED = Verdict(ConditionReason.ACCEPTED, "acme")
PENDING = Sync("False", ConditionReason.WORKERS_PENDING, "0/2 workers")
SYNCED = Sync("True", ConditionReason.WORKERS_SYNCED, "2/2 workers")


def agent(status: dict[str, Any] | None = None, generation: int = 1, **spec: Any) -> StoredAgent:
    return StoredAgent.of(
        {
            "metadata": {
                "namespace": "acme",
                "name": "ada",
                "uid": "u-1",
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "generation": generation,
                "resourceVersion": "10",
            },
            "spec": {"displayName": "Ada", **spec},
            "status": status or {},
        }
    )


def known(
    manifest: dict[str, Any], version: int = 1, created: str = "2026-01-01T00:00:00Z"
) -> KnownConfigMap:
    stored = json.loads(json.dumps(manifest))
    stored["metadata"] |= {
        "uid": f"c-{version}",
        "resourceVersion": str(version),
        "creationTimestamp": created,
    }
    return KnownConfigMap.of(stored)


def written(of: StoredAgent, tenant: str = "acme", **more: Any) -> list[KnownConfigMap]:
    rendered = render(AgentSpec.model_validate(of.spec))
    return [known(manifest, **more) for manifest in config_maps(of, tenant, rendered)]


def planned(
    of: StoredAgent,
    verdict: Verdict = ACCEPTED,
    maps: list[KnownConfigMap] | None = None,
    sync: Sync = PENDING,
    now: datetime = NOW,
) -> Plan:
    return plan(of, verdict, target_of(of, verdict), maps or [], sync=sync, observed=NOW, now=now)


def settled(**spec: Any) -> StoredAgent:
    """Make an Agent that is ready."""
    new = agent(**spec)
    status = planned(new, sync=SYNCED).status
    assert status is not None
    return agent(status, **spec)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.yaml")), ids=lambda path: path.stem)
def test_golden_files(path: Path) -> None:
    """What is written for an Agent, byte for byte, as people and workers see it."""
    case = yaml.safe_load(path.read_text())
    verdict = Verdict(
        ConditionReason(case["verdict"]["reason"]),
        case["verdict"].get("tenant"),
        case["verdict"].get("label"),
        tuple((rival["namespace"], rival["name"]) for rival in case["verdict"].get("rivals", ())),
    )
    sync = Sync(case["sync"]["status"], ConditionReason(case["sync"]["reason"]), case["sync"]["message"])
    made = planned(StoredAgent.of(case["agent"]), verdict, sync=sync)
    found = {"configMaps": made.put, "status": made.status, "prune": [one.name for one in made.prune]}
    assert json.loads(json.dumps(found)) == json.loads(path.with_suffix(".plan.json").read_text())


def test_a_settled_agent_needs_nothing() -> None:
    one = settled()
    for sync in (PENDING, SYNCED, Sync("Unknown", ConditionReason.NO_WORKERS, "none")):
        assert planned(one, maps=written(one), sync=sync, now=NOW.replace(year=2030)).empty


def test_the_pointer_moves_only_with_the_documents() -> None:
    one = settled()
    edited = agent(dict(one.status), generation=2, systemPrompt="new")
    made = planned(edited, maps=written(one))
    assert made.points
    assert len(made.put) == 2
    assert made.status is not None
    assert made.status["activeRevision"] == render(AgentSpec.model_validate(edited.spec)).revision
    conditions = {one["type"]: one["status"] for one in made.status["conditions"]}
    assert conditions["ConfigSynced"] == "False"  # a new revision is proven anew
    assert conditions["Ready"] == "False"


def test_what_shapes_no_answer_keeps_the_proof() -> None:
    one = settled()
    edited = agent(dict(one.status), generation=2, revisionHistoryLimit=7)
    made = planned(edited, maps=written(one))
    assert (made.put, made.points) == ((), False)
    assert made.status is not None
    assert {one["type"]: one["status"] for one in made.status["conditions"]}["Ready"] == "True"
    assert made.status["observedGeneration"] == 2


def test_another_tenant_is_a_new_proof() -> None:
    one = settled()
    made = planned(one, Verdict(ConditionReason.ACCEPTED, "globex"), maps=written(one))
    assert made.points
    assert len(made.put) == 2  # their labels
    assert made.status is not None
    assert made.status["tenantId"] == "globex"


def test_an_invalid_stored_spec_keeps_the_last_good_revision() -> None:
    one = settled()
    bad = agent(dict(one.status), generation=2, onFallback="never")
    made = planned(bad, maps=written(one))
    assert (made.put, made.prune, made.points) == ((), (), False)
    assert made.status is not None
    assert made.status["activeRevision"] == one.active_revision
    assert made.status["promptSha256"] == one.status["promptSha256"]
    conditions = {one["type"]: one for one in made.status["conditions"]}
    assert conditions["Rendered"]["reason"] == "InvalidSpec"
    assert "onFallback" in conditions["Rendered"]["message"]
    assert one.active_revision is not None
    assert one.active_revision in conditions["Rendered"]["message"]
    assert conditions["ConfigSynced"]["status"] == "True"
    assert conditions["Ready"]["status"] == "False"


def test_the_last_good_revision_never_goes_to_another_tenant() -> None:
    one = settled()
    bad = agent(dict(one.status), generation=2, onFallback="never")
    made = planned(bad, Verdict(ConditionReason.ACCEPTED, "globex"), maps=written(one))
    assert made.status is not None
    assert "activeRevision" not in made.status
    assert made.points


def test_unknown_fields_of_a_stored_spec_are_passed_over() -> None:
    plain, novel = agent(), agent(novelty="x", persona={"pitch": "low"})
    assert target_of(plain, ACCEPTED) == target_of(novel, ACCEPTED)


@pytest.mark.parametrize("limit", [0, 1, 2, 20])
def test_the_history_keeps_the_newest_and_the_active_one(limit: int) -> None:
    one = settled(systemPrompt="0", revisionHistoryLimit=limit)
    maps = written(one, version=1)  # the active one is the oldest: a rollback
    for number in range(1, 5):
        maps += written(agent(systemPrompt=str(number)), version=10 * number)
    made = planned(one, maps=maps)
    kept = {found.revision for found in maps} - {found.revision for found in made.prune}
    assert one.active_revision in kept
    newest = [written(agent(systemPrompt=str(number)))[0].revision for number in (4, 3, 2, 1)]
    assert kept - {one.active_revision} == set(newest[:limit])
    assert made.put == ()


@pytest.mark.parametrize("change", ["data", "labels", "owner", "immutable"])
def test_a_config_map_that_differs_is_written_again(change: str) -> None:
    one = settled()
    rendered = render(AgentSpec.model_validate(one.spec))
    first, second = config_maps(one, "acme", rendered)
    forged = json.loads(json.dumps(first))
    if change == "data":
        forged["data"]["identity.json"] += " "
    elif change == "labels":
        forged["metadata"]["labels"].popitem()
    elif change == "owner":
        forged["metadata"]["ownerReferences"][0]["uid"] = "u-0"
    else:
        del forged["immutable"]
    made = planned(one, maps=[known(forged), known(second)])
    assert [item["metadata"]["name"] for item in made.put] == [first["metadata"]["name"]]
    assert made.status is None


def test_labels_and_annotations_of_others_are_theirs() -> None:
    one = settled()
    manifests = config_maps(one, "acme", render(AgentSpec.model_validate(one.spec)))
    for manifest in manifests:
        manifest["metadata"]["labels"]["team"] = "support"
        manifest["metadata"]["annotations"] = {"seen": "yes"}
    assert planned(one, maps=[known(manifest) for manifest in manifests]).empty


def test_a_failure_is_told_and_moves_nothing() -> None:
    one = settled()
    target = target_of(one, ACCEPTED)
    outcome = Outcome(target.active, failure="403: forbidden")
    status = build_status(one, ACCEPTED, outcome, sync=PENDING, observed=NOW, now=NOW)
    conditions = {one["type"]: one for one in status["conditions"]}
    assert conditions["Rendered"]["reason"] == "RenderFailed"
    assert conditions["Ready"]["reason"] == "RenderFailed"
    assert status["activeRevision"] == one.active_revision
    assert points_at(agent(status), target.active)
    assert [notice.reason for notice in notices(one.status, status)] == ["RenderFailed"]


def test_times_change_only_with_the_status() -> None:
    one = settled()
    edited = agent(dict(one.status), generation=2, suspended=True)
    made = planned(edited, maps=written(one), now=NOW.replace(year=2030))
    assert made.status is not None
    since = {one["type"]: one["lastTransitionTime"][:4] for one in made.status["conditions"]}
    assert since == {
        "Accepted": "2026",
        "NameConflict": "2026",
        "Rendered": "2026",
        "ConfigSynced": "2026",
        "Ready": "2030",
    }


def test_events_are_told_once() -> None:
    new = agent()
    first = planned(new).status
    assert first is not None
    assert list(notices({}, first)) == []
    second = planned(agent(first), maps=written(new), sync=SYNCED).status
    assert second is not None
    assert [notice.reason for notice in notices(first, second)] == ["ConfigSynced"]
    assert list(notices(second, second)) == []
    edited = planned(agent(second, generation=2, displayName="Other")).status
    assert edited is not None
    assert [notice.reason for notice in notices(second, edited)] == ["RevisionActivated"]
