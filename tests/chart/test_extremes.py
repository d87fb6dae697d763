"""Whatever the schema of the values lets through either becomes objects that a real API server takes, or is
refused by Helm in one line that names the value. Every field, at its extremes, one value or all at once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.extremes import SCHEMA, STRINGS, accepted, leaves
from tests.chart.rendering import CHART, KITCHEN_SINK, ChartError, Manifest, render_text
from tests.chart.stand_ins import stand_ins
from tests.operator.worker_api import Api
from tests.support.control_plane import ControlPlane
from tests.support.fuzzing import FACTOR

AGENTS = CHART / "files" / "agents.konstruct.dev.yaml"

OUTSIDE = CHART / "ci" / "outside-values.yaml"
"""Values with existing servers, cluster-wide."""

Path_ = tuple[str, ...]
Choice = tuple[Path_, Any]

NAMESPACES = sorted(
    {"konstruct", "tenant-a", "tenant-b", "monitoring"}
    | {one for one in STRINGS if re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", one)}
)

PLURALS = {"NetworkPolicy": "networkpolicies"}
"""Kinds whose plural is not made with an s."""


class Server(Api):
    """The API server; says what it would say of an object, and remembers it."""

    def __init__(self, cluster: ControlPlane) -> None:
        super().__init__(cluster)
        self._said: dict[str, str] = {}

    def refusal(self, manifest: Manifest) -> str:
        """Return why it refuses `manifest`, or nothing."""
        text = json.dumps(manifest, sort_keys=True)
        if text not in self._said:
            self._said[text] = self._ask(manifest)
        return self._said[text]

    def refusal_of_any(self, text: str) -> str:
        """Return why it refuses the first that it refuses, or nothing."""
        manifests = [one for one in yaml.load_all(text, yaml.CSafeLoader) if one]
        manifests.sort(key=lambda one: one["kind"] != "Namespace")
        return next((said for one in manifests if (said := self.refusal(one))), "")

    def _ask(self, manifest: Manifest) -> str:
        if manifest["kind"] == "Pod":  # which would have to find its ServiceAccount
            template = {"metadata": {"labels": manifest["metadata"]["labels"]}, "spec": manifest["spec"]}
            meta = {part: manifest["metadata"][part] for part in ("name", "namespace")}
            manifest = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": meta, "template": template}
        version, kind = manifest["apiVersion"], manifest["kind"]
        root = "/api/v1" if version == "v1" else f"/apis/{version}"
        plural = PLURALS.get(kind, f"{kind.lower()}s")
        namespace = manifest["metadata"].get("namespace")
        if kind not in ("ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "Namespace"):
            root += f"/namespaces/{namespace or 'konstruct'}"
        answer = self._client.patch(
            f"{root}/{plural}/{manifest['metadata']['name']}",
            params={
                # A namespace has to be there for what is in it to be judged.
                **({} if kind == "Namespace" else {"dryRun": "All"}),
                "force": "true",
                "fieldValidation": "Strict",
                "fieldManager": "helm",
            },
            headers={"content-type": "application/apply-patch+yaml"},
            content=json.dumps(manifest, ensure_ascii=False).encode(),
        )
        return "" if answer.is_success else f"{kind} {manifest['metadata']['name']}: {answer.text}"


@pytest.fixture(scope="module")
def server(control_plane_tools: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with ControlPlane(tmp_path_factory.mktemp("extremes")) as made:
        made.apply(
            AGENTS.read_text(),
            *stand_ins(),
            *({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": one}} for one in NAMESPACES),
        )
        made.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        api = Server(made)
        yield api
        api.close()


def nested(choices: Mapping[Path_, Any]) -> dict[str, Any]:
    """Make a values file of paths and values."""
    made: dict[str, Any] = {}
    for path, value in choices.items():
        place = made
        for part in path[:-1]:
            place = place.setdefault(part, {})
        place[path[-1]] = value
    return made


def refusal(server: Server, base: Path, choices: list[Choice], folder: Path) -> tuple[str, str]:
    """Return (who refuses the values, what it says): helm, server or nobody."""
    values = folder / f"values-{len(list(folder.iterdir()))}.json"
    values.write_text(json.dumps(nested(dict(choices)), ensure_ascii=False))
    try:
        text = render_text([base, values], "konstruct", "konstruct")
    except ChartError as error:
        return "helm", str(error)
    said = server.refusal_of_any(text)
    return ("server" if said else "", said)


REFUSED = re.compile(
    r"Error: (execution error at \(konstruct/templates/\S+\): [^\n]+\n"
    r"|values don't meet the specifications of the schema)"
)
"""How Helm refuses values in words."""


def wrong(server: Server, base: Path, choices: list[Choice], folder: Path) -> list[str]:
    """Return what is wrong with single `choices`.

    What Helm's words name is left out, and the rest tried again; else halves are tried until one is left.
    """
    who, said = refusal(server, base, choices, folder)
    if not who:
        return []
    if who == "helm" and REFUSED.match(said):
        rest = [(path, value) for path, value in choices if not is_named(path, said)]
        if len(rest) < len(choices):
            return wrong(server, base, rest, folder)
    if len(choices) > 1:
        middle = len(choices) // 2
        return [
            *wrong(server, base, choices[:middle], folder),
            *wrong(server, base, choices[middle:], folder),
        ]
    return [f"{'.'.join(path)}={value!r}: {who}: {said[:400]}" for path, value in choices] or [said]


def is_named(path: Path_, said: str) -> bool:
    """Whether Helm's words name a value, or its group, by path as people write it or as the schema does."""
    groups = [re.escape(".".join(path[:length])) for length in range(2, len(path))]
    names = [rf"{re.escape('.'.join(path))}(?!\w)", *(rf"{group}(?!\w|\.\w)" for group in groups)]
    by_schema = f"'/{'/'.join(path)}"
    return by_schema in said or any(re.search(rf"(?<![\w.]){name}", said) for name in names)


COMPONENTS = ("llmPool", "worker", "operator", "migration", "postgresql", "redis")
"""Parts of the values that have the same fields, each of which then tries a share of the candidates."""


def candidates() -> dict[Path_, list[Any]]:
    """List what is tried of each field."""
    found = {path: accepted(schema) for path, schema in leaves(SCHEMA)}
    assert len(found) > 150
    assert all(found.values()), [path for path, values in found.items() if not values]
    return {
        path: values[COMPONENTS.index(path[0]) :: len(COMPONENTS)]
        if path[0] in COMPONENTS and all((part, *path[1:]) in found for part in COMPONENTS)
        else values
        for path, values in found.items()
    }


@pytest.mark.timeout(900)
@pytest.mark.parametrize("base", [KITCHEN_SINK, OUTSIDE], ids=["kitchen-sink", "outside"])
def test_what_helm_renders_the_api_server_takes(server: Server, base: Path, tmp_path: Path) -> None:
    """`make test` tries an eighth of the candidates, `make fuzz` all."""
    fields = candidates()
    assert refusal(server, base, [], tmp_path) == ("", "")
    every = 1 if FACTOR > 1 else 8
    found: list[str] = []
    for number in range(0 if base is OUTSIDE else every // 2, max(map(len, fields.values())), every):
        choices = [(path, values[number]) for path, values in fields.items() if number < len(values)]
        found += wrong(server, base, choices, tmp_path)
    assert not found, f"{len(found)}:\n" + "\n".join(found)


@pytest.mark.parametrize("name", ["a", "a" * 53, "konstruct", "x-konstruct-" + "y" * 41, "true", "null"])
@pytest.mark.parametrize("namespace", ["a" * 63, "123", "true"])
def test_releases_and_namespaces_of_extreme_names(server: Server, name: str, namespace: str) -> None:
    for base in (KITCHEN_SINK, OUTSIDE):
        assert server.refusal_of_any(render_text([base], name, namespace)) == ""


@pytest.mark.parametrize("name", ["a.b", "1a", "123"])
def test_a_release_whose_name_cannot_be_part_of_others(server: Server, name: str) -> None:
    with pytest.raises(ChartError, match=f'name "{re.escape(name)}" .*choose another'):
        render_text([OUTSIDE], name, "konstruct")
    if "." not in name:  # which KONSTRUCT_RELEASE may not have either
        text = render_text([OUTSIDE, {"fullnameOverride": "mine"}], name, "konstruct")
        assert server.refusal_of_any(text) == ""


def test_releases_with_long_names_share_none() -> None:
    """Two in a namespace, alike in all that is left of their names."""

    def named(release: str) -> set[tuple[str, str, str]]:
        text = render_text([OUTSIDE, {"crds.install": False}], release, "konstruct")
        return {
            (one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"])
            for one in yaml.load_all(text, yaml.CSafeLoader)
            if one
        }

    first, second = named("a" * 52 + "1"), named("a" * 52 + "2")
    assert len(first) == len(second) > 30
    assert not first & second
