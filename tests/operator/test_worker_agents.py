"""A worker in a cluster: what the operator puts in effect, it answers from; what is wrong, it refuses."""

from __future__ import annotations

import json

import pytest

from orchestrator.asking import worker_status
from orchestrator.main import app
from shared.kube.names import IDENTITY, PERSONA, agent_path, config_map_name, config_map_path
from shared.models import AgentSpec
from shared.persona import Rendered, render, revision_of
from shared.reply import MessageStatus, Reason
from tests.operator.worker_api import Written
from tests.operator.worker_stage import AGENT_RULES, Stage
from tests.support.kubernetes import MakeNamespace
from tests.support.waiting import eventually

pytest_plugins = ["tests.operator.worker_fixtures"]


def answers_from(stage: Stage, written: Written, agent: str = "ada", tenant: str | None = None) -> None:
    eventually(lambda: stage.ask(agent, tenant).revision == written.revision, what=f"{agent}'s new revision")


def test_edits_are_in_effect_without_a_restart(stage: Stage) -> None:
    first = stage.operator.apply(stage.tenant, "ada")
    worker = stage.worker().ready()
    pid = worker.process.pid
    assert stage.ask().revision == first.revision

    for number in range(5):
        edit = stage.operator.apply(stage.tenant, "ada", systemPrompt=f"Answer in rhyme {number}.")
        worker.sees(stage.tenant, edit, within_s=5)
        reply = stage.ask()
        assert (reply.revision, reply.status) == (edit.revision, MessageStatus.ANSWERED)
        prompt = stage.cell.pool.requests[-1].messages[0].content
        assert f"rhyme {number}" in prompt
    # Measured from the operator's stamp to the swap, and all of it on this machine.
    assert worker.metric("konstruct_agent_config_lag_seconds_count") == 5
    assert worker.metric("konstruct_agent_config_lag_seconds_sum") / 5 < 1
    assert worker.process.pid == pid

    back = stage.operator.apply(stage.tenant, "ada")
    assert back.revision == first.revision
    worker.sees(stage.tenant, back)
    assert stage.ask().revision == first.revision


def test_suspension_and_deletion(stage: Stage) -> None:
    stage.operator.apply(stage.tenant, "ada")
    worker = stage.worker().ready()
    assert stage.ask().status is MessageStatus.ANSWERED
    stage.operator.write_spec(stage.tenant, "ada", suspended=True)  # before the operator has seen it
    eventually(lambda: stage.ask().reason is Reason.AGENT_SUSPENDED)
    stage.operator.write_spec(stage.tenant, "ada", suspended=False)
    eventually(lambda: stage.ask().status is MessageStatus.ANSWERED)
    stage.operator.delete(stage.tenant, "ada")
    eventually(lambda: stage.ask().reason is Reason.AGENT_UNKNOWN)
    again = stage.operator.apply(stage.tenant, "ada", systemPrompt="Born again.")
    worker.sees(stage.tenant, again)
    assert stage.ask().revision == again.revision


@pytest.mark.parametrize("mode", ["cluster", "namespaces"])
def test_with_the_rights_of_each_mode_the_oldest_of_two_is_served(
    stage: Stage, make_namespace: MakeNamespace, mode: str
) -> None:
    other = make_namespace()
    if mode == "cluster":
        stage.grant(None, AGENT_RULES)
        stage.namespaces = ()
    else:
        stage.grant(other, AGENT_RULES)
        stage.namespaces = (stage.tenant, other)
    first = stage.operator.apply(stage.tenant, "ada")
    created = stage.api.find(agent_path(stage.tenant, "ada"))
    assert created is not None
    second = eventually(  # creation times have whole seconds
        lambda: _younger(stage, other, created["metadata"]["creationTimestamp"])
    )
    worker = stage.worker().ready()
    assert stage.ask().revision == first.revision
    seen = {"*"} if mode == "cluster" else {stage.tenant, other}
    eventually(lambda: (lease := worker.lease()) and set(lease.state.seen) == seen, what="all seen")

    stage.operator.delete(stage.tenant, "ada")
    assert second is not None
    answers_from(stage, second)


def _younger(stage: Stage, namespace: str, than: str) -> Written | None:
    stage.operator.delete(namespace, "ada")
    written = stage.operator.apply(namespace, "ada", tenant=stage.tenant, systemPrompt="The younger.")
    found = stage.api.find(agent_path(namespace, "ada"))
    return written if found and found["metadata"]["creationTimestamp"] > than else None


def test_where_there_is_no_agent_at_all_every_one_is_unknown(stage: Stage) -> None:
    """A complete list of nothing is a complete list."""
    stage.worker().ready()
    assert stage.ask().reason is Reason.AGENT_UNKNOWN


def test_an_agent_that_is_not_accepted_is_not_served(stage: Stage) -> None:
    written = stage.operator.apply(stage.tenant, "ada")
    worker = stage.worker().ready()
    assert stage.ask().status is MessageStatus.ANSWERED
    refused = stage.operator.activate(
        stage.tenant, "ada", written.revision, tenant=stage.tenant, accepted=False
    )
    worker.sees(stage.tenant, refused)
    assert stage.ask().reason is Reason.AGENT_UNKNOWN


def test_what_is_no_revision_is_refused_and_recovers_by_itself(stage: Stage) -> None:
    """Missing, forged and unknown documents: the last good revision stays, and the Lease says why."""
    good = stage.operator.apply(stage.tenant, "ada")
    worker = stage.worker().ready()
    rendered = render(AgentSpec.model_validate({"displayName": "Ada", "systemPrompt": "Wanted."}))
    maps = {
        part: config_map_path(stage.tenant, config_map_name("ada", part, rendered.revision))
        for part in (IDENTITY, PERSONA)
    }

    def refused(reason: str, revision: str = rendered.revision) -> None:
        def told() -> bool:
            lease = worker.lease()
            found = lease.state.refused if lease else ()
            return [(r.name, r.revision) for r in found] == [("ada", revision)] and reason in found[0].reason

        eventually(told, what=f"a refusal because {reason}")
        assert stage.ask().revision == good.revision

    missing = stage.operator.activate(stage.tenant, "ada", rendered.revision, tenant=stage.tenant)
    refused("there is no ConfigMap")
    worker.sees(stage.tenant, missing)  # refused counts as dealt with: the refusal is what tells
    problem = worker_status(app, limit=1)[0].problems[0]
    assert problem.where == f"{stage.tenant}/ada"
    assert f"revision {good.revision} stays in effect" in problem.message

    forged = Rendered(
        identity_json=rendered.identity_json,
        persona_json=rendered.persona_json.replace("Wanted", "Forged"),
        revision=rendered.revision,
    )
    stage.operator.write_documents(stage.tenant, "ada", forged)
    refused("the documents hash to")
    for path in maps.values():
        stage.api.delete(path)
    stage.operator.write_documents(stage.tenant, "ada", rendered)
    # No event of the Agent: the worker tries again by itself.
    answers_from(stage, Written(rendered.revision, 0))
    eventually(lambda: (lease := worker.lease()) and lease.state.refused_total == 0)

    good = Written(rendered.revision, 0)
    later = json.dumps({"schema": 99, "displayName": "Ada"}) + "\n"
    revision = revision_of(later, rendered.persona_json)
    stage.operator.write_document(stage.tenant, "ada", IDENTITY, revision, later)
    stage.operator.write_document(stage.tenant, "ada", PERSONA, revision, rendered.persona_json)
    stage.operator.activate(stage.tenant, "ada", revision, tenant=stage.tenant)
    refused("has a form not known here", revision)


def test_messages_to_an_agent_that_cannot_be_loaded_yet_wait(stage: Stage) -> None:
    rendered = render(AgentSpec.model_validate({"displayName": "Ada", "systemPrompt": "Late."}))
    stage.operator.write_spec(stage.tenant, "ada", systemPrompt="Late.")
    stage.operator.activate(stage.tenant, "ada", rendered.revision, tenant=stage.tenant)
    worker = stage.worker().ready()
    message = stage.cell.message("hello", tenant_id=stage.tenant)
    stage.cell.submit(message)
    eventually(lambda: worker.metric("konstruct_deliveries_put_back_total") >= 2)
    stage.operator.write_documents(stage.tenant, "ada", rendered)
    assert stage.cell.reply(message).revision == rendered.revision
    assert stage.ask("nobody").reason is Reason.AGENT_UNKNOWN


def test_messages_to_a_suspended_agent_fail_also_when_it_cannot_be_loaded(stage: Stage) -> None:
    rendered = render(AgentSpec.model_validate({"displayName": "Ada", "systemPrompt": "Late."}))
    stage.operator.write_spec(stage.tenant, "ada", systemPrompt="Late.", suspended=True)
    stage.operator.activate(stage.tenant, "ada", rendered.revision, tenant=stage.tenant)
    worker = stage.worker().ready()
    reply = stage.ask()
    assert (reply.status, reply.reason) == (MessageStatus.FAILED, Reason.AGENT_SUSPENDED)
    assert worker_status(app, limit=1)[0].problems[0].message.endswith("; it is suspended")

    # Switched on, and still not to be loaded: then it is worth waiting for.
    stage.operator.write_spec(stage.tenant, "ada", systemPrompt="Late.", suspended=False)
    worker.sees(stage.tenant, Written(rendered.revision, _version(stage)))
    message = stage.cell.message("hello", tenant_id=stage.tenant)
    stage.cell.submit(message)
    eventually(lambda: worker.metric("konstruct_deliveries_put_back_total") >= 1)
    stage.operator.write_spec(stage.tenant, "ada", systemPrompt="Late.", suspended=True)
    assert stage.cell.reply(message).reason is Reason.AGENT_SUSPENDED

    stage.operator.write_documents(stage.tenant, "ada", rendered)
    stage.operator.write_spec(stage.tenant, "ada", systemPrompt="Late.", suspended=False)
    eventually(lambda: stage.ask().revision == rendered.revision)


def _version(stage: Stage) -> int:
    found = stage.api.find(agent_path(stage.tenant, "ada"))
    return int(found["metadata"]["resourceVersion"]) if found else 0
