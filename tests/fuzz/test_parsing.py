"""What workers and people's commands read: whatever it is, it is taken, or refused in words.

What each of them must never do is to raise something else: a watch, a folder or a queue would end with it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError
from typer.testing import CliRunner

from konstruct_cli.main import app
from orchestrator.agents.catalog import ServedAgent
from orchestrator.cluster.claims import Claim, Claims
from shared.kube.objects import ConditionType, StoredAgent
from shared.manifest import MAX_JSON, MAX_MERGED, ManifestError, describe, load_manifests
from shared.models import AgentSpec, KonstructMessage
from shared.persona import DocumentError, Rendered, render, revision_of
from tests.support.fuzzing import tries
from tests.support.strategies import damaged, json_values, strange_texts

SPEC = {
    "displayName": "Ada",
    "role": "clerk",
    "systemPrompt": "Help.",
    "persona": {"tone": "warm", "dos": ["greet"]},
    "identity": {"expertise": ["mail"]},
    "model": {"group": "fast"},
    "onFallback": "disclose",
}

MANIFEST = {
    "apiVersion": "konstruct.dev/v1alpha1",
    "kind": "Agent",
    "metadata": {"name": "ada", "namespace": "acme", "labels": {}},
    "spec": SPEC,
}

HEAD = "apiVersion: konstruct.dev/v1alpha1\nkind: Agent\nmetadata: {name: ada}\nspec:\n  displayName: Ada\n"

MERGES = "\n".join(
    ["- &a0 {k: v}", *(f"- &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 12))]
)
"""Would copy some 31 billion fields."""

ALIASES = "\n".join(["  - &a0 [x]", *(f"  - &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))])
"""Would repeat a letter as often."""

BROKEN = {
    "a date for a key": f"{HEAD}  2020-01-01: x",
    "bytes for a key": f'{HEAD}  !!binary "YQ==": x',
    "itself": HEAD.replace("spec:\n", "spec: &a\n") + "  persona: *a",
    "no int": '!!int ""',
    "no bool": "!!bool maybe",
    "no time": "!!timestamp soon",
    "no float": '!!float ""',
    "a long number": f"{HEAD}  revisionHistoryLimit: 0x{'f' * 5000}",
    "half a character": HEAD.replace("ada", '"\\ud800"') + '  role: "\\ud800"',
    "aliases in aliases": f"{HEAD}  x:\n{ALIASES}",
    "merges in merges": MERGES,
    "deep aliases": "\n".join(
        [f"{HEAD}  x:", "  - &a0 []", *(f"  - &a{n} [*a{n - 1}]" for n in range(1, 3000))]
    ),
    "deep": "[" * 1000,
}
"""Manifests that are none, each of which once ended what read it, or could have."""

scraps = st.lists(
    st.sampled_from([*"{}[]:,-?!&*|>%@`'\"# \n", "<<", "*a", "&a ", "!!int ", "!!set ", "!!binary ", "---\n"])
    | st.text(max_size=4),
    max_size=30,
).map("".join)


def yaml_of(manifest: Any, scrap: str) -> str:
    return f"{yaml.safe_dump(manifest, allow_unicode=True)}{scrap}"


manifest_texts = (
    st.text()
    | scraps
    | scraps.map(lambda scrap: f"{HEAD}  role: {scrap}")
    | st.builds(yaml_of, damaged(MANIFEST), st.just("") | scraps)
    | damaged(MANIFEST).map(json.dumps)
)


def check_render(text: str) -> None:
    ran = CliRunner().invoke(app, ("render", "-", "--json"), input=text.encode(errors="surrogatepass"))
    assert ran.exception is None or isinstance(ran.exception, SystemExit), ran.exception
    assert (ran.exit_code, bool(ran.stderr)) in ((0, False), (2, True))
    assert "Traceback" not in ran.stderr


@given(text=manifest_texts)
@tries(60)
def test_render_takes_or_refuses_any_text(text: str) -> None:
    check_render(text)


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_manifest_is_refused_in_words(name: str) -> None:
    with pytest.raises(ManifestError) as refused:
        load_manifests(BROKEN[name])
    assert str(refused.value).isprintable()
    check_render(BROKEN[name])


def test_the_bounds_of_repetition_are_named() -> None:
    with pytest.raises(ManifestError, match=f"over {MAX_JSON} characters"):
        load_manifests(BROKEN["aliases in aliases"])
    with pytest.raises(ManifestError, match="ValueError"):
        load_manifests(BROKEN["merges in merges"])
    merged = "a: &a {displayName: Ada}\nb: &b {<<: *a}\nkind: Other\n---\n" + HEAD + "  <<: [{role: clerk}]"
    (agent,) = load_manifests(merged)
    assert agent.model_dump()["spec"]["role"] == "clerk"
    assert MAX_MERGED >= 1000


# Documents


def check_documents(identity: str, persona: str, revision: str | None) -> None:
    """Load them under the revision that they have, unless another is given."""
    try:
        documents = Rendered.model_construct(
            identity_json=identity,
            persona_json=persona,
            revision=revision_of(identity, persona) if revision is None else revision,
        )
    except UnicodeEncodeError:
        return  # has no revision
    try:
        served = ServedAgent.of(("acme", "ada"), documents)
    except DocumentError:
        return
    assert revision is None or revision == revision_of(identity, persona)
    assert served.prompt


GOOD = render(AgentSpec.model_validate(SPEC))

documents_of_one = (
    st.sampled_from([GOOD.identity_json, GOOD.persona_json, "", "null", "[" * 100_000, '{"schema": 1}'])
    | damaged(json.loads(GOOD.identity_json)).map(json.dumps)
    | damaged(json.loads(GOOD.persona_json)).map(json.dumps)
    | json_values.map(json.dumps)
    | strange_texts
)


@given(
    identity=documents_of_one,
    persona=documents_of_one,
    revision=st.none() | st.just(GOOD.revision) | strange_texts,
)
@example(GOOD.identity_json, GOOD.persona_json, None)
@example("\ud800", GOOD.persona_json, GOOD.revision)
@tries(80)
def test_documents_are_loaded_or_refused(identity: str, persona: str, revision: str | None) -> None:
    check_documents(identity, persona, revision)


# Agents of a watch

METADATA = {
    "namespace": "acme",
    "name": "ada",
    "uid": "0f",
    "creationTimestamp": "2026-01-01T00:00:00Z",
    "resourceVersion": "7",
}

STATUS = {
    "activeRevision": GOOD.revision,
    "tenantId": "acme",
    "observedTime": "2026-01-01T00:00:00.000001Z",
    "conditions": [{"type": "Accepted", "status": "True"}],
}


def stored(spec: Any, status: Any) -> Mapping[str, Any]:
    return {"metadata": METADATA, "spec": spec, "status": status}


@given(spec=damaged(SPEC) | json_values, status=damaged(STATUS) | json_values)
@example(SPEC, {**STATUS, "observedTime": "2026-01-01T00:00:00+99:99"})
@example(SPEC, {**STATUS, "observedTime": "0000-01-01T00:00:00Z"})
@example(SPEC, {**STATUS, "observedTime": "0001-01-01T00:00:00+23:00"})
@example(SPEC, {**STATUS, "conditions": ["Accepted"]})
@example([], [])
@tries(80)
def test_no_agent_of_a_watch_keeps_another_from_being_served(spec: Any, status: Any) -> None:
    claims = Claims()
    other = StoredAgent.of({**stored(SPEC, STATUS), "metadata": {**METADATA, "name": "bob", "uid": "b"}})
    strange = StoredAgent.of(stored(spec, status))
    claims.replace(None, [strange, other])
    assert claims.chosen(("acme", "bob")) == Claim.of(other)
    claim = Claim.of(strange)
    if claim is not None:
        assert strange.is_true(ConditionType.ACCEPTED)
        assert claim.observed is None or datetime.now(UTC) - claim.observed < timedelta.max


# Messages

PAYLOAD = {
    "message_id": "m1",
    "tenant_id": "acme",
    "thread_id": "t1",
    "agent": "ada",
    "sender": "sam",
    "text": "Hi",
    "channel": "api",
    "sent_at": "2026-01-01T00:00:00Z",
}


@given(payload=damaged(PAYLOAD) | json_values)
@example({**PAYLOAD, "sent_at": 10**400})
@tries(80)
def test_a_payload_is_a_message_or_a_clean_refusal(payload: Any) -> None:
    try:
        message = KonstructMessage.model_validate(payload)
    except ValidationError as error:
        describe(error)
        return
    assert KonstructMessage.model_validate_json(message.model_dump_json()) == message
