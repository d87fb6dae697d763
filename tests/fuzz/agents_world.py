"""Agents of two namespaces that people change at random, and what must become of them once they rest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
from hypothesis import strategies as st
from pydantic import ValidationError

from orchestrator.asking import worker_status
from orchestrator.main import app
from shared.kube.names import (
    AGENT_LABEL,
    agent_path,
    agents_path,
    config_map_name,
    config_map_path,
    config_maps_path,
    document_key,
    documents_of,
)
from shared.kube.objects import ConditionType, StoredAgent
from shared.models import API_VERSION, AgentSpec
from shared.persona import render
from tests.operator.operator_corpus import misfits, specs
from tests.operator.operator_stage import OperatorStage
from tests.support.strategies import damaged

NAMES = ("ada", "bob")
"""Few, so that they are made, changed and deleted again, and both namespaces claim the same."""

UNTYPED = "failed to create typed patch object"
"""What an API server says with a status of 500 that should be 422."""

Act = tuple[Any, ...]
"""What somebody does: its kind, then what it is done to, and with what."""

places = st.tuples(st.integers(0, 1), st.sampled_from(NAMES))
"""Number of a namespace, and name of an Agent."""

odd_specs = specs() | specs().flatmap(lambda whole: damaged(whole, misfits))

forgeries = st.sampled_from(["delete", "label", "disown"])
"""What somebody does to a rendered ConfigMap."""

acts: st.SearchStrategy[Act] = st.one_of(
    st.tuples(st.just("apply"), places, odd_specs, st.sampled_from(["Strict", "Ignore"])),
    st.tuples(st.just("apply"), places, specs(), st.just("Strict")),
    st.tuples(st.just("merge"), places, odd_specs),
    st.tuples(st.just("delete"), places),
    st.tuples(st.just("again"), places, specs()),
    st.tuples(st.just("suspend"), places, st.booleans()),
    st.tuples(
        st.just("relabel"), st.integers(0, 1), st.sampled_from(["own", "other", "other", "odd", "none"])
    ),
    st.tuples(st.just("forge"), places, forgeries),
)
"""One thing that somebody does."""

batches = st.lists(acts, min_size=10, max_size=30)
"""What people do at one time."""


@dataclass
class World:
    """The namespaces, by an administrator's eyes."""

    stage: OperatorStage
    taken: int = 0
    """Requests that the API server took."""
    refused: int = 0
    """Requests that it refused."""
    seen: set[str] = field(default_factory=set)
    """What became of Agents: reasons of conditions, to know that the examples are not all alike."""

    def do(self, act: Act) -> None:
        """Do one thing; whatever it is, the API server says yes or no."""
        kind, what, *how = act
        api, stage = self.stage.api, self.stage
        if kind == "relabel":
            tenants = {"own": what, "other": 1 - what}
            tenant = stage.spaces[tenants[how[0]]] if how[0] in tenants else None
            stage.relabel(stage.spaces[what], "Odd_Tenant" if how[0] == "odd" else tenant)
            return
        space, name = stage.spaces[what[0]], what[1]
        path = agent_path(space, name)
        match kind:
            case "apply":
                self._apply(path, space, name, how[0], how[1])
            case "merge":
                self._count(api.merge(path, {"spec": how[0]}))
            case "suspend":
                self._count(api.merge(path, {"spec": {"suspended": how[0]}}))
            case "delete":
                api.delete(path)
            case "again":
                api.delete(path)
                self._apply(path, space, name, how[0], "Strict")
            case "forge":
                self._forge(space, name, how[0])

    def clear(self) -> None:
        """Delete every Agent, and give each namespace its tenant back.

        A ConfigMap that lost its owner while it was not in effect is nobody's: whoever did that cleans up.
        """
        for space in self.stage.spaces:
            for item in self.stage.api.list(agents_path(space)):
                self.stage.delete(item["metadata"]["name"], space)
            self.stage.relabel(space, space)

    def clean_up(self) -> None:
        """Delete what nobody owns."""
        for space in self.stage.spaces:
            for name, item in self.stage.config_maps(space).items():
                if not _owners(item):
                    self.stage.api.delete(config_map_path(space, name))

    def wrong(self) -> list[str]:
        """Say what is not yet as it must be; nothing when all has come to rest."""
        serving: dict[tuple[str, str], str] = {}
        told: list[str] = []
        for space in self.stage.spaces:
            found = self.stage.api.list(agents_path(space))
            held = self.stage.config_maps(space)
            for item in found:
                told += self._wrong_agent(item, held, serving)
            uids = {item["metadata"]["uid"] for item in found}
            told += [
                f"{space}/{name} is of no Agent"
                for name, item in held.items()
                if (owners := _owners(item)) and not uids & owners
            ]
        served = {
            (agent.tenant_id, agent.agent): agent.revision
            for agent in worker_status(app, limit=1)[0].agents
            if agent.tenant_id in self.stage.spaces
        }
        return told or ([f"served is {served}, not {serving}"] if served != serving else [])

    def _wrong_agent(
        self, item: dict[str, Any], held: dict[str, Any], serving: dict[tuple[str, str], str]
    ) -> Iterator[str]:
        agent = StoredAgent.of(item)
        where = "/".join(agent.ref)
        if agent.status.get("observedGeneration") != agent.generation:
            yield f"{where}: generation {agent.generation} was not seen"
            return
        accepted, rendered = agent.condition(ConditionType.ACCEPTED), agent.condition(ConditionType.RENDERED)
        assert accepted is not None
        assert rendered is not None
        self.seen |= {accepted["reason"], rendered["reason"]}
        if accepted["status"] != "True" or rendered["status"] != "True":
            if not (accepted["message"] and rendered["message"]):
                yield f"{where} is not in effect, and nothing says why"
            if accepted["status"] == "True":
                yield f"{where} cannot be rendered: {rendered['message']}"
            return
        try:
            wanted = render(AgentSpec.model_validate(agent.spec))
        except ValidationError:
            yield f"{where} was stored, and is not valid"
            return
        for part, document in documents_of(wanted).items():
            found = held.get(config_map_name(agent.name, part, wanted.revision), {})
            if found.get("data") != {document_key(part): document}:
                yield f"{where}: there is no {part} of {wanted.revision}"
        if agent.active_revision != wanted.revision:
            yield f"{where} is at {agent.active_revision}, not at {wanted.revision}"
        if not agent.is_true(ConditionType.CONFIG_SYNCED):
            yield f"{where} is not proven"
        assert agent.tenant_id is not None
        if (agent.tenant_id, agent.name) in serving:
            yield f"{where} is accepted, and another as well"
        serving[agent.tenant_id, agent.name] = wanted.revision

    def _apply(self, path: str, space: str, name: str, spec: Any, validation: str) -> None:
        manifest = {
            "apiVersion": API_VERSION,
            "kind": "Agent",
            "metadata": {"name": name, "namespace": space},
            "spec": spec,
        }
        if "\\ud800" in json.dumps(spec):
            return  # no client can send half a character
        self._count(
            self.stage.api._client.patch(
                path,
                params={"fieldManager": "person", "force": "true", "fieldValidation": validation},
                headers={"content-type": "application/apply-patch+yaml"},
                json=manifest,
            )
        )

    def _forge(self, space: str, name: str, how: str) -> None:
        for item in self.stage.api.list(config_maps_path(space), f"{AGENT_LABEL}={name}"):
            path = config_map_path(space, item["metadata"]["name"])
            if how == "delete":
                self.stage.api.delete(path)
            elif how == "label":
                self.stage.api.merge(path, {"metadata": {"labels": {AGENT_LABEL: "eve"}}})
            else:
                self.stage.api.merge(path, {"metadata": {"ownerReferences": None}})

    def _count(self, answer: httpx.Response) -> None:
        # Kubernetes' own way to refuse an apply that has another type than the schema.
        assert answer.status_code < 500 or UNTYPED in answer.text, answer.text
        if answer.is_success:
            self.taken += 1
        else:
            self.refused += 1


def _owners(item: dict[str, Any]) -> set[str]:
    return {owner["uid"] for owner in item["metadata"].get("ownerReferences", ())}
