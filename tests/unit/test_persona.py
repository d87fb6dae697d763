"""Rendering: the same spec gives the same bytes, every answering field changes the revision."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shared.manifest import load_manifests
from shared.models import Agent, AgentSpec
from shared.persona import DocumentError, load, render, revision_of

GOLDEN = Path(__file__).parent / "golden"

FULL = {
    "displayName": "Ada",
    "role": "clerk",
    "systemPrompt": "Help people.\n",
    "persona": {"tone": "warm", "style": "brief", "dos": ["greet"], "donts": ["shout"]},
    "identity": {"name": "Ada L.", "background": "Forms.", "expertise": ["a"], "languages": ["English"]},
    "model": {"group": "fast"},
    "onFallback": "disclose",
}


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.yaml")), ids=lambda path: path.stem)
def test_golden_files(path: Path) -> None:
    """A revision that changes here changes for everybody: agents answer anew under another name."""
    (agent,) = (m for m in load_manifests(path.read_text()) if isinstance(m, Agent))
    rendered = render(agent.spec)
    assert rendered.identity_json == path.with_suffix(".identity.json").read_text()
    assert rendered.persona_json == path.with_suffix(".persona.json").read_text()
    assert rendered.revision == path.with_suffix(".revision").read_text().strip()


def test_what_is_loaded_is_what_was_rendered() -> None:
    spec = AgentSpec.model_validate(FULL)
    rendered = render(spec)
    loaded = load(rendered.identity_json, rendered.persona_json, rendered.revision)
    assert loaded.identity.identity == spec.identity
    assert loaded.identity.display_name == spec.display_name
    assert loaded.persona.persona == spec.persona
    assert (loaded.persona.model, loaded.persona.on_fallback) == (spec.model, spec.on_fallback)


def changes() -> list[dict[str, object]]:
    return [
        {"displayName": "Eve"},
        {"role": "chief"},
        {"systemPrompt": "Help people."},
        {"persona": {**FULL["persona"], "tone": "cold"}},  # type: ignore[dict-item]
        {"persona": {**FULL["persona"], "donts": []}},  # type: ignore[dict-item]
        {"identity": {**FULL["identity"], "name": "Eve"}},  # type: ignore[dict-item]
        {"identity": {**FULL["identity"], "languages": ["French"]}},  # type: ignore[dict-item]
        {"model": {"group": "quality"}},
        {"onFallback": "refuse"},
    ]


@pytest.mark.parametrize("change", changes(), ids=str)
def test_every_answering_field_changes_the_revision(change: dict[str, object]) -> None:
    before = render(AgentSpec.model_validate(FULL)).revision
    assert render(AgentSpec.model_validate({**FULL, **change})).revision != before
    assert render(AgentSpec.model_validate(FULL)).revision == before  # and back: a rollback


@pytest.mark.parametrize("change", [{"suspended": True}, {"revisionHistoryLimit": 9}], ids=str)
def test_what_shapes_no_answer_does_not(change: dict[str, object]) -> None:
    assert render(AgentSpec.model_validate({**FULL, **change})) == render(AgentSpec.model_validate(FULL))


def test_documents_must_hash_to_their_revision() -> None:
    rendered = render(AgentSpec.model_validate(FULL))
    forged = rendered.persona_json.replace("warm", "rude")
    with pytest.raises(DocumentError, match="hash to"):
        load(rendered.identity_json, forged, rendered.revision)


def test_text_cannot_move_between_the_documents() -> None:
    assert revision_of("ab", "c") != revision_of("a", "bc")


def test_an_unknown_form_is_refused() -> None:
    rendered = render(AgentSpec.model_validate(FULL))
    newer = json.dumps({**json.loads(rendered.persona_json), "schema": 2})
    with pytest.raises(DocumentError, match="form not known here"):
        load(rendered.identity_json, newer, revision_of(rendered.identity_json, newer))


def test_unknown_fields_of_a_known_form_are_passed_over() -> None:
    rendered = render(AgentSpec.model_validate(FULL))
    newer = json.loads(rendered.persona_json) | {"novelty": "x"}
    newer["persona"]["pitch"] = "low"
    text = json.dumps(newer)
    loaded = load(rendered.identity_json, text, revision_of(rendered.identity_json, text))
    assert loaded.persona == load(rendered.identity_json, rendered.persona_json, rendered.revision).persona
