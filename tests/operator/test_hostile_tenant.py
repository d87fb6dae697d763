"""Whatever a tenant writes into its namespace, the operator and the workers go on for the others in time."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from shared.kube.names import (
    AGENT_LABEL,
    FIELD_MANAGER,
    MANAGED_BY_LABEL,
    PARTS,
    agent_path,
    agent_status_path,
    config_map_name,
    config_map_path,
    config_maps_path,
    document_key,
    namespace_path,
)
from shared.models import AgentSpec
from shared.persona import render
from tests.operator.hostile_stage import FEW_S, WRITERS, Neighbours
from tests.operator.operator_stage import OperatorStage
from tests.operator.worker_stage import worker_beside
from tests.support.crossing import PAGE
from tests.support.waiting import eventually
from tests.support.worker import Cell

pytest_plugins = ["tests.operator.operator_fixtures"]

whole_cluster = pytest.mark.parametrize("operator_stage", [True], indirect=True, ids=["cluster"])

CONFIG_MAP = {"apiVersion": "v1", "kind": "ConfigMap"}
OURS = {MANAGED_BY_LABEL: FIELD_MANAGER}
"""The label by which the operator finds what it has written."""

MANY = 300
"""Agents that are applied again and again."""

LONG = "<" * (2**20 - 1000)
"""Text of a ConfigMap that has all the size it may have; JSON writes it six times as long."""


def labels(number: int) -> dict[str, str]:
    """Labels, of which Kubernetes bounds each and not the number."""
    return {f"{'x' * 50}.acme/{'y' * 50}{one}": "z" * 63 for one in range(number)}


def condition(**changes: Any) -> dict[str, Any]:
    return {
        "type": "Accepted",
        "status": "True",
        "reason": "Forged",
        "message": "",
        "lastTransitionTime": "9999-12-31T23:59:59Z",
        **changes,
    }


STATUSES: tuple[dict[str, Any], ...] = (
    {},
    {"conditions": []},
    {"activeRevision": "../../../pods?x#"},
    {"activeRevision": "%zz%00\\ \n\u202e"},
    {"activeRevision": "0" * 16, "tenantId": "acme", "conditions": [condition()]},
    {"activeRevision": "é" * 16, "promptSha256": "\u0001" * 64, "transparencyClause": ""},
    {"observedGeneration": 2**63 - 1, "observedTime": "9999-12-31T23:59:59.999999-12:00"},
    {"observedGeneration": -(2**63), "observedTime": "0001-01-01T00:00:00Z"},
    {"observedGeneration": 1, "observedTime": "0001-01-01T00:00:00+14:00"},
    {"conditions": [condition(type=kind, observedGeneration=-1) for kind in ("Ready", "", "ConfigSynced")]},
    {"conditions": [condition(type="é" * 300, message="m" * 2048, reason="r" * 1024)]},
    {"conditions": [condition(lastTransitionTime="0001-01-01T00:00:00Z", status="Unknown")]},
)
"""What the schema lets somebody write who may write an Agent's status."""

Act = Callable[[Neighbours], object]


def metadata(**changes: Any) -> Act:
    """Make an Agent of ``acme``, and give it other metadata."""

    def act(world: Neighbours) -> None:
        world.stage.apply("ada", world.acme)
        answer = world.write(agent_path(world.acme, "ada"), {"metadata": changes})
        assert answer.is_success, answer.text
        world.stage.until("Ready", "True", "Ready", "ada", world.acme)

    return act


def disowned(world: Neighbours) -> None:
    """The garbage collector deletes it at once."""
    world.stage.apply("ada", world.acme)
    owner = {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}
    assert world.write(agent_path(world.acme, "ada"), {"metadata": {"ownerReferences": [owner]}}).is_success


def statuses(world: Neighbours) -> None:
    world.stage.apply("ada", world.acme)
    for status in STATUSES:
        world.stage.until("Ready", "True", "Ready", "ada", world.acme)
        # The whole of it: what is there and not here is taken away.
        there = (world.api.find(agent_path(world.acme, "ada")) or {})["status"]
        change = {"status": dict.fromkeys(there) | status}
        answer = world.write(agent_status_path(world.acme, "ada"), change)
        assert answer.is_success, (status, answer.text)
    world.stage.until("Ready", "True", "Ready", "ada", world.acme)


def held(world: Neighbours) -> None:
    """Finalizers keep a deleted Agent there, kopf's own among them."""
    finalizers = ["kopf.zalando.org/KopfFinalizerMarker", *(f"acme.dev/f{one}" for one in range(500))]
    metadata(finalizers=finalizers)(world)
    world.stage.delete("ada", world.acme)
    world.edit()
    assert world.write(agent_path(world.acme, "ada"), {"metadata": {"finalizers": None}}).is_success


def config_map(world: Neighbours, name: str, **content: Any) -> None:
    labelled = {"name": name, "namespace": world.acme, "labels": {**OURS, AGENT_LABEL: "vera"}}
    answer = world.api.create(config_maps_path(world.acme), {**CONFIG_MAP, "metadata": labelled, **content})
    assert answer.is_success, answer.text


def taken(world: Neighbours) -> None:
    """The names of documents are taken before there are any, in every way that they can be."""
    binary = base64.b64encode(bytes(range(256))).decode()
    contents: list[dict[str, Any]] = [
        {"immutable": True, "data": {document_key("identity"): "{}"}},
        {"immutable": True, "binaryData": {"identity.json": binary}},
        {"data": {".a": "", "-": "\u0000", "A_b.c": LONG}},
    ]
    odd = itertools.cycle(contents)
    for number in range(6):
        prompt = f"Prompt {number}."
        spec = {"displayName": "Ada", "systemPrompt": prompt}
        revision = render(AgentSpec.model_validate(spec)).revision
        for part in PARTS:
            config_map(world, config_map_name("ada", part, revision), **next(odd))
        world.stage.apply("ada", world.acme, systemPrompt=prompt)
        world.stage.until("Ready", "True", "Ready", "ada", world.acme)


def long_ones(world: Neighbours) -> None:
    """One that has the operator's label is as long as can be, and changes all the time."""
    config_map(world, "long", data={"a": LONG})
    for number in range(8):
        change = {"metadata": {"annotations": {"n": str(number)}}}
        assert world.write(config_map_path(world.acme, "long"), change).is_success
        assert world.edit() < FEW_S
    for number in range(40):
        config_map(world, f"long-{number}", data={"a": LONG})
    world.operator.stop()  # it lists all of them when it starts
    world.operator = world.stage.start()


def many_of_one_name(world: Neighbours) -> None:
    """As many old revisions of one Agent as nobody ever had."""
    world.stage.apply("ada", world.acme)
    names = [config_map_name("ada", "persona", f"{one:016x}") for one in range(1200)]
    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(lambda name: config_map(world, name), names))


def tenant_labels(world: Neighbours) -> None:
    world.stage.apply("ada", world.acme)
    for label in ("", "x" * 63, "Odd_Tenant", None, world.acme) * 6:
        world.stage.relabel(world.acme, label)
    world.stage.until("Ready", "True", "Ready", "ada", world.acme)


def namespace_metadata(world: Neighbours) -> None:
    change = {"metadata": {"annotations": {"a": "<" * (2**18 - 100)}, "labels": labels(500)}}
    assert world.write(namespace_path(world.acme), change).is_success


def flood(world: Neighbours) -> None:
    with world.flood(world.make_agents(MANY)) as count:
        eventually(lambda: count[0] > MANY, what="every Agent applied again")
        assert max(world.edit() for _ in range(3)) < FEW_S


def quota(world: Neighbours) -> None:
    """Nothing that the operator writes there may be made: each of its tries is a refusal."""
    kinds = ("events", "configmaps", "leases.coordination.k8s.io")
    made = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none", "namespace": world.acme},
        "spec": {"hard": {f"count/{kind}": "0" for kind in kinds}},
    }
    path = f"/api/v1/namespaces/{world.acme}/resourcequotas"
    assert world.api.create(path, made).is_success
    for number in range(20):
        world.stage.apply(f"q{number}", world.acme, systemPrompt="Not to be written.")
    assert world.edit() < FEW_S
    world.api.delete(f"{path}/none")


def going(world: Neighbours) -> None:
    """A namespace that is deleted and does not go: nothing can be made in it any more."""
    world.stage.apply("ada", world.acme)
    finalizer = {"metadata": {"finalizers": ["acme.dev/never"]}}
    assert world.write(agent_path(world.acme, "ada"), finalizer).is_success
    world.api.delete(namespace_path(world.acme))
    world.edit()
    world.write(agent_path(world.acme, "ada"), {"metadata": {"finalizers": None}})


@dataclass(frozen=True)
class Row:
    """One row of the table."""

    on: str
    tried: str
    act: Act


ANSWER = "the other tenant's edit is in effect within seconds"
"""What comes of each."""

ROWS = (
    Row("Agent", "labels of 1 MiB", metadata(labels=labels(5000))),
    Row(
        "Agent",
        "annotations of 256 KiB, kopf's and Konstruct's among them",
        metadata(
            annotations={
                "kopf.zalando.org/last-handled-configuration": "{" * 2**17,
                "kopf.zalando.org/on_agent": '{"started": "9999"}',
                "konstruct.dev/state": "[" * 2**16,
            }
        ),
    ),
    Row("Agent", "finalizers, kopf's among them, on one that is deleted", held),
    Row("Agent", "an owner that does not exist", disowned),
    Row("Agent", "a status with absurd revisions, times, generations and conditions", statuses),
    Row("Agent", f"{MANY} of them, applied again and again as fast as it goes", flood),
    Row("ConfigMap", "names of documents taken beforehand: immutable, binary, with odd keys", taken),
    Row(
        "ConfigMap",
        "the operator's label on 1 MiB that JSON makes 6, changed, and 40 more at its start",
        long_ones,
    ),
    Row("ConfigMap", "1200 revisions of one Agent that do not exist", many_of_one_name),
    Row("Namespace", "its tenant's label empty, absurd, gone and back, again and again", tenant_labels),
    Row("Namespace", "annotations of 256 KiB and 500 labels", namespace_metadata),
    Row("Event", "a ResourceQuota that lets no Event, ConfigMap or Lease be made", quota),
    Row("Namespace", "deleted, and kept by a finalizer", going),
)


@whole_cluster
def test_what_a_tenant_writes_holds_up_nobody_else(operator_stage: OperatorStage, cell: Cell) -> None:
    operator = operator_stage.start()
    workers = worker_beside(operator_stage, cell)
    with workers.end:
        worker = workers.worker(lease_s=60).ready()
        world = Neighbours(operator_stage, operator, workers, worker)
        world.begin()
        for row in ROWS:
            try:
                row.act(world)
                assert world.edit() < FEW_S
                world.unharmed()
            except Exception as error:
                error.add_note(f"{row.on}: {row.tried}")
                raise
            world.clear()

        # Nothing that stands in an Event can do anything: nobody reads one.
        asked = [
            (event["user"]["username"], event["verb"])
            for event in operator_stage.cluster.audit_events()
            if event.get("objectRef", {}).get("resource") == "events"
            and f":serviceaccount:{operator_stage.home}:" in event["user"].get("username", "")
        ]
        assert {verb for _, verb in asked} == {"create"}
        assert not [who for who, _ in asked if who.endswith(":worker")]


def test_the_documentation_shows_the_matrix() -> None:
    rows = "".join(f"| {row.on} | {row.tried} | {ANSWER} |\n" for row in ROWS)
    assert rows in PAGE.read_text(), rows
