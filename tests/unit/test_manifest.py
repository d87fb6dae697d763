"""Manifests: good ones are read, bad ones say where and what to do."""

from __future__ import annotations

import contextlib

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from shared.manifest import ManifestError, load_manifests
from shared.models import MAX_SPEC_BYTES, Agent, Namespace

GOOD = """
apiVersion: konstruct.dev/v1alpha1
kind: Agent
metadata:
  name: ada
  namespace: acme
  annotations: {team: support}
spec:
  displayName: Ada
"""


def test_an_agent_with_its_namespace() -> None:
    text = (
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: acme, labels: {konstruct.dev/tenant-id: a}}\n---"
        + GOOD
    )
    namespace, agent = load_manifests(text)
    assert isinstance(namespace, Namespace)
    assert isinstance(agent, Agent)
    assert (namespace.tenant_id, agent.metadata.name, agent.spec.model.group) == ("a", "ada", "quality")
    assert (agent.spec.on_fallback, agent.spec.suspended, agent.spec.revision_history_limit) == (
        "allow",
        False,
        3,
    )


def test_other_kinds_and_empty_documents_are_passed_over() -> None:
    assert load_manifests("---\n---\napiVersion: v1\nkind: Service\nmetadata: {name: x}\n") == []


BAD = {
    "no YAML": ("a: [", "line 1"),
    "a scalar": ("hello", "no kind"),
    "a list": ("- a", "no kind"),
    "a python object": ("!!python/object/apply:os.system ['true']", "not valid YAML"),
    "another version": (GOOD.replace("v1alpha1", "v9"), "apiVersion must be konstruct.dev/v1alpha1"),
    "no spec": (GOOD.partition("spec:")[0], "Agent ada: spec: is required"),
    "no name": (GOOD.replace("name: ada", "labels: {}"), "metadata.name: is required"),
    "bad name": (GOOD.replace("name: ada", "name: Ada_1"), "metadata.name: has a form"),
    "misspelt": (GOOD.replace("displayName", "displyName"), "spec.displyName: no such field"),
    "misspelt inside": (GOOD + "  persona: {tones: x}\n", "spec.persona.tones: no such field"),
    "a number for text": (GOOD.replace("Ada", "12"), "valid string"),
    "text for a switch": (GOOD + '  suspended: "yes"\n', "spec.suspended: Input should be a valid boolean"),
    "text for a number": (GOOD + '  revisionHistoryLimit: "3"\n', "valid integer"),
    "too many": (GOOD + "  revisionHistoryLimit: 21\n", "less than or equal to 20"),
    "unknown choice": (GOOD + "  onFallback: maybe\n", "'allow', 'disclose' or 'refuse'"),
    "text for a list": (GOOD + "  persona: {dos: greet}\n", "spec.persona.dos"),
    "a control character": (GOOD.replace("Ada", '"A\\u202eda"'), "control characters"),
    "too long": (GOOD + f"  systemPrompt: {'x' * 16_385}\n", "at most 16384 characters"),
    "too large": (
        GOOD
        + f"  systemPrompt: {'日' * 16_000}\n"
        + f"  identity: {{expertise: [{', '.join(['日' * 500] * 32)}]}}\n",
        f"keep it within {MAX_SPEC_BYTES}",
    ),
    "a whole library": (GOOD + "# " + "x" * 1_100_000, "split it"),
    "nested without end": ("[" * 5000, "not valid YAML"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_manifest_says_what_to_do(name: str) -> None:
    text, expected = BAD[name]
    with pytest.raises(ManifestError, match=r".+") as caught:
        load_manifests(text)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=300) | st.binary(max_size=300).map(lambda b: b.decode("latin-1")))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ManifestError):
        load_manifests(text)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10)
trees = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "displayName", "persona", "tone", "spec", "labels"]), inner, max_size=3
        )
    ),
)


@given(metadata=trees, spec=trees)
def test_any_tree_is_read_or_refused(metadata: object, spec: object) -> None:
    document = {"apiVersion": "konstruct.dev/v1alpha1", "kind": "Agent", "metadata": metadata, "spec": spec}
    with contextlib.suppress(ManifestError):
        load_manifests(yaml.safe_dump(document))
