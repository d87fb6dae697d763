"""skaffold.yaml names what is there, and every environment has its profile."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.rendering import ENVIRONMENTS, containers, pod_templates, render_chart

ROOT = Path(__file__).parents[2]
SKAFFOLD: dict[str, Any] = yaml.safe_load((ROOT / "skaffold.yaml").read_text())
PROFILES = {profile["name"]: profile for profile in SKAFFOLD["profiles"]}
ARTIFACTS = {artifact["image"]: artifact for artifact in SKAFFOLD["build"]["artifacts"]}


def release(name: str) -> dict[str, Any]:
    """Return the Helm release of a profile; a profile without one has that of the top."""
    (found,) = PROFILES[name].get("deploy", SKAFFOLD["deploy"])["helm"]["releases"]
    assert isinstance(found, dict)
    return found


def test_there_is_a_profile_for_each_environment() -> None:
    assert set(PROFILES) == set(ENVIRONMENTS)
    assert re.fullmatch(r"skaffold/v4beta\d+", SKAFFOLD["apiVersion"])


@pytest.mark.parametrize("image", sorted(ARTIFACTS))
def test_it_builds_what_images_build_does(image: str) -> None:
    artifact = ARTIFACTS[image]
    dockerfile = ROOT / artifact["docker"]["dockerfile"]
    assert artifact["context"] == "."
    assert f'title="{image}"' in dockerfile.read_text()
    script = (ROOT / "images/build").read_text()
    assert (
        image.partition("/")[2] in (re.search(r'^services="(.*)"', script, re.MULTILINE) or [""])[1].split()
    )


@pytest.mark.parametrize("name", sorted(ENVIRONMENTS))
def test_a_profile_installs_the_chart_with_its_values(name: str) -> None:
    made = release(name)
    assert (ROOT / made["chartPath"] / "Chart.yaml").is_file()
    assert [ROOT / values for values in made["valuesFiles"]] == [ENVIRONMENTS[name]]


@pytest.mark.parametrize("name", sorted(ENVIRONMENTS))
def test_the_images_that_it_built_are_those_that_run(name: str) -> None:
    """Its templates are filled in as skaffold does; then every image of ours must be one of them."""

    def filled(template: str) -> str:
        found = re.fullmatch(r"\{\{\.IMAGE_(REPO|TAG|DIGEST)_(\w+)\}\}", template)
        assert found, template
        (image,) = [one for one in ARTIFACTS if re.sub(r"\W", "_", one) == found[2]]
        return {"REPO": f"registry.example/{image}", "TAG": "0built", "DIGEST": digest(image)}[found[1]]

    def digest(image: str) -> str:
        return f"sha256:{hashlib.sha256(image.encode()).hexdigest()}"

    values = {path: filled(template) for path, template in release(name)["setValueTemplates"].items()}
    made = render_chart(ENVIRONMENTS[name], values)
    running = {container["image"] for _, pod in pod_templates(made) for container in containers(pod)}
    built = {f"registry.example/{image}:0built" for image in ARTIFACTS}
    if name == "prod":
        built = {f"registry.example/{image}:0built@{digest(image)}" for image in ARTIFACTS}
    assert {image for image in running if "konstruct" in image} == built
