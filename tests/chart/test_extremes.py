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
            params={"dryRun": "All", "force": "true", "fieldValidation": "Strict", "fieldManager": "helm"},
            headers={"content-type": "application/apply-patch+yaml"},
            content=json.dumps(manifest),
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
    values.write_text(json.dumps(nested(dict(choices))))
    try:
        text = render_text([base, values], "konstruct", "konstruct")
    except ChartError as error:
        return "helm", str(error)
    for manifest in yaml.load_all(text, yaml.CSafeLoader):
        said = server.refusal(manifest) if manifest else ""
        if said:
            return "server", said
    return "", ""


REFUSED = re.compile(
    r"Error: (execution error at \(konstruct/templates/validate\.yaml:\d+:\d+\): [^\n]+\n"
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
    """Whether Helm's words name a value, by its path as people write it or as the schema does."""
    return re.search(rf"{re.escape('.'.join(path))}\b|'/{re.escape('/'.join(path))}[/']", said) is not None


@pytest.mark.timeout(900)
@pytest.mark.parametrize("base", [KITCHEN_SINK, OUTSIDE], ids=["kitchen-sink", "outside"])
def test_what_helm_renders_the_api_server_takes(server: Server, base: Path, tmp_path: Path) -> None:
    fields = {path: accepted(schema) for path, schema in leaves(SCHEMA)}
    assert len(fields) > 150
    assert all(fields.values()), [path for path, values in fields.items() if not values]
    assert refusal(server, base, [], tmp_path) == ("", "")
    found: list[str] = []
    for number in range(max(len(values) for values in fields.values())):
        choices = [(path, values[number]) for path, values in fields.items() if number < len(values)]
        found += wrong(server, base, choices, tmp_path)
    assert not found, f"{len(found)}:\n" + "\n".join(found)
