"""An Agent's life: created, edited, rolled back, suspended, deleted; under the rights of both modes."""

from __future__ import annotations

import pytest

from shared.kube.names import config_map_path, document_key
from shared.models import TENANT_LABEL, AgentSpec
from shared.persona import load, render
from shared.prompt import prompt_sha256, system_prompt
from tests.operator.operator_stage import OperatorStage, both_modes
from tests.operator.operator_workers import FakeWorker
from tests.support.cluster import KubectlError
from tests.support.waiting import eventually

pytest_plugins = ["tests.operator.operator_fixtures"]


@both_modes
def test_a_new_agent_takes_four_writes(operator_stage: OperatorStage) -> None:
    stage = operator_stage
    worker = FakeWorker(stage)
    worker.renew()
    operator = stage.start()
    before = stage.audited()
    stage.apply(systemPrompt="Help people.", persona={"dos": ["greet"]})
    stage.until("ConfigSynced", "False", "WorkersPending")
    worker.renew()
    stage.until("Ready", "True", "Ready")
    assert stage.until("ConfigSynced", "True", "WorkersSynced") == "1/1 workers"
    assert sorted((verb, what) for verb, what, _ in stage.writes(before)) == [
        ("create", "configmaps"),
        ("create", "configmaps"),
        ("patch", "agents/status"),
        ("patch", "agents/status"),
    ]

    spec = AgentSpec.model_validate(
        {"displayName": "Ada", "systemPrompt": "Help people.", "persona": {"dos": ["greet"]}}
    )
    rendered = render(spec)
    status = stage.status()
    prompt = system_prompt(load(rendered.identity_json, rendered.persona_json, rendered.revision))
    assert status["activeRevision"] == rendered.revision
    assert (status["tenantId"], status["transparencyClause"]) == (stage.space, "1")
    assert status["promptSha256"] == prompt_sha256(prompt)
    maps = stage.config_maps()
    assert set(maps) == {f"ada-identity-{rendered.revision}", f"ada-persona-{rendered.revision}"}
    persona = maps[f"ada-persona-{rendered.revision}"]
    assert persona["data"] == {document_key("persona"): rendered.persona_json}
    assert persona["immutable"] is True
    assert persona["metadata"]["labels"][TENANT_LABEL] == stage.space
    assert persona["metadata"]["ownerReferences"][0]["blockOwnerDeletion"] is False
    eventually(lambda: stage.events() == ["ConfigSynced"], what="one Event")
    assert operator.metric("konstruct_operator_agents", ready="true") >= 1
    assert operator.metric("konstruct_operator_workers", state="alive") == 1
    assert operator.healthy()


@both_modes
def test_edit_rollback_and_history(operator_stage: OperatorStage) -> None:
    stage = operator_stage
    stage.start()
    stage.apply(systemPrompt="one", revisionHistoryLimit=1)
    first = stage.revision()
    stage.apply(systemPrompt="two", revisionHistoryLimit=1)
    second = stage.revision(other_than=first)
    assert {first, second} == {name.rpartition("-")[2] for name in stage.config_maps()}
    observed = stage.status()["observedTime"]

    stage.apply(systemPrompt="one", revisionHistoryLimit=1)
    assert stage.revision(other_than=second) == first
    assert stage.status()["observedTime"] > observed

    stage.apply(systemPrompt="three", revisionHistoryLimit=0)
    third = stage.revision(other_than=first)
    eventually(
        lambda: {name.rpartition("-")[2] for name in stage.config_maps()} == {third},
        what="the end of the history",
    )


def test_suspending_is_no_new_revision(operator_stage: OperatorStage) -> None:
    stage = operator_stage
    FakeWorker(stage).renew(seen=2**60)
    stage.start()
    stage.apply()
    stage.until("Ready", "True", "Ready")
    revision = stage.revision()
    stage.apply(suspended=True)
    assert "agent_suspended" in stage.until("Ready", "False", "Suspended")
    assert stage.revision() == revision
    assert stage.condition("ConfigSynced")["status"] == "True"
    stage.apply(suspended=False, systemPrompt="edited while nobody was looking")
    stage.until("Ready", "True", "Ready")


@pytest.mark.parametrize("running", [True, False], ids=["operator up", "operator down"])
def test_a_deleted_agent_takes_its_config_maps_with_it(operator_stage: OperatorStage, running: bool) -> None:
    stage = operator_stage
    operator = stage.start()
    stage.apply()
    stage.revision()
    if not running:
        operator.stop()
    stage.delete()
    eventually(lambda: not stage.config_maps(), within_s=60, what="the garbage collector")
    assert stage.api.find(f"/apis/konstruct.dev/v1alpha1/namespaces/{stage.space}/agents/ada") is None
    if running:
        assert operator.metric("konstruct_operator_agents") == 0


def test_deleted_and_made_again_under_the_same_name(operator_stage: OperatorStage) -> None:
    stage = operator_stage
    stage.start()
    first = stage.apply(systemPrompt="first")["metadata"]["uid"]
    before = stage.revision()
    for round_ in range(3):
        stage.delete()
        uid = stage.apply(systemPrompt="first")["metadata"]["uid"]
        assert uid != first, round_
    assert stage.revision() == before

    def owned() -> bool:
        owners = [item["metadata"]["ownerReferences"] for item in stage.config_maps().values()]
        return len(owners) == 2 and all([owner["uid"] for owner in each] == [uid] for each in owners)

    eventually(owned, within_s=60, what="ConfigMaps of the new Agent")


def test_an_agent_without_a_tenant_is_told_what_to_do(operator_stage: OperatorStage) -> None:
    stage = operator_stage
    stage.relabel(stage.space, None)
    stage.start()
    stage.apply()
    message = stage.until("Accepted", "False", "NoTenant")
    assert f"kubectl label namespace {stage.space} {TENANT_LABEL}=" in message
    assert stage.until("Ready", "False", "NoTenant") == message
    assert stage.config_maps() == {}
    assert "activeRevision" not in stage.status()
    assert "tenantId" not in stage.status()
    eventually(lambda: stage.events() == ["NoTenant"], what="an Event")
    stage.relabel(stage.space, "Not_A_Label")
    stage.apply(role="clerk")  # read at every look
    assert "'Not_A_Label'" in stage.until("Accepted", "False", "InvalidTenant")


@both_modes
def test_a_relabelled_namespace(operator_stage: OperatorStage) -> None:
    stage = operator_stage
    FakeWorker(stage).renew(seen=2**60)
    stage.start()
    stage.apply()
    stage.until("Ready", "True", "Ready")
    revision = stage.revision()
    stage.relabel(stage.space, "other")
    within_s = 5 if stage.clusterwide else 35
    eventually(lambda: stage.status().get("tenantId") == "other", within_s=within_s, what="the new tenant")
    stage.until("Ready", "True", "Ready")
    assert stage.revision() == revision
    assert {item["metadata"]["labels"][TENANT_LABEL] for item in stage.config_maps().values()} == {"other"}


@both_modes
def test_the_rights_are_no_wider_than_needed(operator_stage: OperatorStage) -> None:
    stage = operator_stage

    def may(verb: str, what: str, space: str | None) -> bool:
        scope = [f"--namespace={space}"] if space else ["--all-namespaces"]
        try:
            answer = stage.cluster.kubectl(
                "auth", "can-i", verb, *what.split(), *scope, kubeconfig=stage.kubeconfig
            )
        except KubectlError:
            return False
        return answer.strip() == "yes"

    for space in (*stage.spaces, stage.home):
        assert not may("get", "secrets", space)
        assert not may("list", "secrets", space)
        assert not may("get", "pods", space)
        assert not may("update", "agents", space)
        assert not may("patch", "agents", space)
        assert not may("delete", "agents", space)
    assert may("patch", "agents --subresource=status", stage.space)
    assert may("list", "agents", None) is stage.clusterwide
    assert may("get", "configmaps", stage.home) is stage.clusterwide
    assert may("delete", "leases/konstruct-operator", stage.space)
    assert not may("delete", "leases/another", stage.space)


def test_a_config_map_that_people_use_is_left_alone(operator_stage: OperatorStage) -> None:
    stage = operator_stage
    stage.start()
    stage.cluster.kubectl("create", "configmap", "mine", "--from-literal=a=b", f"--namespace={stage.space}")
    stage.apply()
    stage.revision()
    assert stage.api.find(config_map_path(stage.space, "mine")) is not None
