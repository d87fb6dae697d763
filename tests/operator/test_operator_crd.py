"""The Agent resource: the chart's file, and the same verdicts from the model and from a real API server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from hypothesis import assume, given
from pydantic import ValidationError

from docs.generate import AGENT_DEFINITION, agent_definition
from konstruct_operator.crd import PATTERN_MESSAGES, custom_resource_definition
from shared.models import Agent
from tests.operator.operator_corpus import LABEL, agent, corpus, misfits, specs
from tests.operator.operator_stage import AdminApi, install_crd
from tests.support.control_plane import ControlPlane
from tests.support.fuzzing import tries
from tests.support.strategies import damaged

CORPUS = corpus()


@pytest.fixture(scope="module")
def api(control_plane: ControlPlane) -> Iterator[AdminApi]:
    install_crd(control_plane)
    made = AdminApi(control_plane)
    yield made
    made.close()


def stored(api: AdminApi, manifest: dict[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """Return the spec as the API server would store it, or None and why not."""
    answer = api.create(
        "/apis/konstruct.dev/v1alpha1/namespaces/default/agents",
        manifest,
        dryRun="All",
        fieldValidation="Strict",
    )
    body: dict[str, Any] = answer.json()
    return (body["spec"], "") if answer.is_success else (None, body["message"])


def modelled(manifest: dict[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """Return the spec as the model reads it, or None and why not."""
    try:
        spec = Agent.model_validate_json(json.dumps(manifest), strict=True).spec
    except ValidationError as error:
        return None, str(error)
    return spec.model_dump(mode="json", by_alias=True, exclude_none=True), ""


def test_the_corpus_is_large_and_has_both_kinds() -> None:
    verdicts = [modelled(manifest)[0] is not None for manifest in CORPUS.values()]
    assert verdicts.count(True) >= 60
    assert verdicts.count(False) >= 60


@pytest.mark.parametrize("name", CORPUS)
def test_model_and_api_server_agree(api: AdminApi, name: str) -> None:
    ours, our_reason = modelled(CORPUS[name])
    theirs, their_reason = stored(api, CORPUS[name])
    assert ours == theirs, f"model: {our_reason or 'good'}\nAPI server: {their_reason or 'good'}"


@pytest.mark.timeout(0)
@given(spec=specs() | specs().flatmap(lambda whole: damaged(whole, misfits)))
@tries(60)
def test_model_and_api_server_agree_on_any_spec(api: AdminApi, spec: Any) -> None:
    assume("\\ud800" not in json.dumps(spec))  # no client can send half a character
    ours, our_reason = modelled(agent(spec))
    theirs, their_reason = stored(api, agent(spec))
    assert ours == theirs, f"model: {our_reason or 'good'}\nAPI server: {their_reason or 'good'}"


MESSAGES: dict[str, tuple[dict[str, Any], str]] = {
    "a name that is no label": (agent({"displayName": "Ada"}, "a.b"), "must be a DNS label"),
    "a long name": (agent({"displayName": "Ada"}, LABEL + "a"), "choose another name"),
    "two lines": (agent({"displayName": "A\nda"}), "write one line of text"),
    "an override": (agent({"displayName": "Ada", "systemPrompt": "\u202e"}), "remove control characters"),
    "a model's id": (agent({"displayName": "Ada", "model": {"group": "GPT/4"}}), "names a model group"),
    "a blank item": (agent({"displayName": "Ada", "persona": {"dos": [" "]}}), "spec.persona.dos[0]"),
    "a misspelt field": (agent({"displayName": "Ada", "displyName": "x"}), 'unknown field "spec.displyName"'),
    "too much": (CORPUS["texts far over"], "shorten them"),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_a_refusal_says_what_to_do(api: AdminApi, name: str) -> None:
    manifest, words = MESSAGES[name]
    spec, reason = stored(api, manifest)
    assert spec is None
    assert words in reason
    assert "should match" not in reason


def test_the_charts_file_is_what_the_code_says() -> None:
    assert AGENT_DEFINITION.read_text() == agent_definition(), "run docs/generate.py"
    assert yaml.safe_load(AGENT_DEFINITION.read_text()) == custom_resource_definition()


def schemas(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from schemas(inner, f"{path}.{name}")
    if "items" in schema:
        yield from schemas(schema["items"], f"{path}[]")


def test_everything_is_bounded_and_described() -> None:
    (version,) = custom_resource_definition()["spec"]["versions"]
    for path, schema in schemas(version["schema"]["openAPIV3Schema"]):
        if path in ("", ".apiVersion", ".kind", ".metadata"):
            continue
        assert schema["type"] != "string" or "maxLength" in schema, path
        assert schema["type"] != "array" or "maxItems" in schema, path
        assert schema.get("description") or path.endswith("[]"), path
        assert "pattern" not in schema, f"{path}: a rule with a message says it better"


def test_every_rule_has_a_message_of_its_own() -> None:
    assert all(PATTERN_MESSAGES.values())
    rules = [
        rule
        for _, schema in schemas(
            custom_resource_definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        )
        for rule in schema.get("x-kubernetes-validations", ())
    ]
    assert len(rules) >= 10
    assert all(rule["message"] for rule in rules)


def test_what_kubectl_shows(control_plane: ControlPlane, namespace: str) -> None:
    install_crd(control_plane)
    control_plane.apply(agent({"displayName": "Ada"}) | {"metadata": {"name": "ada", "namespace": namespace}})
    header = control_plane.kubectl("get", "kag", f"--namespace={namespace}").splitlines()[0].split()
    assert header == ["NAME", "TENANT", "MODEL", "READY", "SYNCED", "REVISION", "AGE"]
    wide = control_plane.kubectl("get", "konstruct", f"--namespace={namespace}", "--output=wide")
    assert "REASON" in wide
    assert "AI transparency clause" in control_plane.kubectl("explain", "agent.status.promptSha256")
    assert "Whether it is switched off" in control_plane.kubectl("explain", "agent.spec.suspended")


def test_each_folder_of_the_examples_is_applied_as_it_stands(
    api: AdminApi, control_plane: ControlPlane
) -> None:
    """As the README says: kubectl takes the files of a folder in the order of their names."""
    folders = sorted((AGENT_DEFINITION.parents[3] / "examples" / "agents").iterdir())
    try:
        for folder in folders:
            control_plane.kubectl("apply", f"--filename={folder}")
        assert "disclose" in control_plane.kubectl("explain", "agent.spec.onFallback")
    finally:
        control_plane.kubectl("delete", "namespace", *(folder.name for folder in folders))
