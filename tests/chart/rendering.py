"""The chart, rendered by the real Helm; and what tests ask of manifests."""

from __future__ import annotations

import functools
import json
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.support.toolchain import tool

CHART = Path(__file__).parents[2] / "charts" / "konstruct"
"""The chart."""

KITCHEN_SINK = CHART / "ci" / "kitchen-sink-values.yaml"
"""Values that switch everything on."""

ENVIRONMENTS = {name: CHART / f"values-{name}.yaml" for name in ("dev", "staging", "prod")}
"""The values file of each environment."""

VALUES = {**ENVIRONMENTS, "kitchen-sink": KITCHEN_SINK}
"""Every values file."""

DIGESTS = CHART / "ci" / "digests-values.yaml"
"""Digests as a registry would show them: production's values demand some, and are rendered with these."""

IN_CHART = {"postgresql": {"enabled": True}, "redis": {"enabled": True}}
"""The least that must be set: the in-chart servers."""

EXTERNAL = {"database": {"existingSecret": "db"}, "queue": {"existingSecret": "q"}}
"""The other least: existing servers."""

Manifest = dict[str, Any]


class ChartError(Exception):
    """Helm refused the values; the message is what it said."""


def render_chart(
    *values: Path | Mapping[str, Any],
    release: str = "konstruct",
    namespace: str = "konstruct",
    options: Sequence[str] = (),
) -> list[Manifest]:
    """Render the chart with values files and mappings, later ones first in rank; return its manifests.

    Raises:
        ChartError: Helm refused.
    """
    return [
        document
        for document in yaml.safe_load_all(render_text(values, release, namespace, options))
        if document
    ]


def render_text(
    values: Iterable[Path | Mapping[str, Any]], release: str, namespace: str, options: Sequence[str] = ()
) -> str:
    """Render the chart and return the text."""
    files = [
        part for value in values for part in ((value, DIGESTS) if value == ENVIRONMENTS["prod"] else (value,))
    ]
    keys = tuple(str(value) if isinstance(value, Path) else json.dumps(value) for value in files)
    return _render(keys, release, namespace, tuple(options))


@functools.cache
def _render(values: tuple[str, ...], release: str, namespace: str, options: tuple[str, ...]) -> str:
    command = [str(tool("helm")), "template", release, str(CHART), "--namespace", namespace, *options]
    for value in values:
        if value.startswith("{"):
            command += [argument for name, part in json.loads(value).items()
                        for argument in ("--set-json", f"{name}={json.dumps(part)}")]  # fmt: skip
        else:
            command += ["--values", value]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        raise ChartError(done.stderr)
    return done.stdout


def kinds(manifests: Iterable[Manifest], *wanted: str) -> list[Manifest]:
    """Return the manifests of these kinds."""
    return [manifest for manifest in manifests if manifest["kind"] in wanted]


def named(manifests: Iterable[Manifest], kind: str, name: str) -> Manifest:
    """Return the one manifest of this kind whose name ends with `name`."""
    (found,) = [one for one in kinds(manifests, kind) if one["metadata"]["name"].endswith(name)]
    return found


def pod_templates(manifests: Iterable[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """List (kind/name, pod: metadata and spec) of everything that makes pods."""
    for manifest in manifests:
        name = f"{manifest['kind']}/{manifest['metadata']['name']}"
        if manifest["kind"] == "Pod":
            yield name, manifest
        elif manifest["kind"] in ("Deployment", "StatefulSet", "Job"):
            yield name, manifest["spec"]["template"]


def component(manifest: Manifest) -> str:
    """Return the component that a manifest is labelled with."""
    return str(manifest["metadata"]["labels"].get("app.kubernetes.io/component", ""))


def containers(pod: Manifest) -> list[Manifest]:
    """Return every container of a pod, init containers first."""
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def environment(container: Manifest) -> dict[str, Any]:
    """Return a container's variables: a value, or where it comes from."""
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container.get("env", [])}


def rules(manifests: Iterable[Manifest]) -> Iterator[tuple[Manifest, Manifest]]:
    """List (role, rule) of every Role and ClusterRole."""
    for role in kinds(manifests, "Role", "ClusterRole"):
        for rule in role["rules"]:
            yield role, rule
