"""Every manifest, judged by a real API server and by kubeconform with that server's own schemas."""

from __future__ import annotations

import copy
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.chart.openapi import LOCATION, write_schemas
from tests.chart.rendering import CHART, VALUES, Manifest, kinds, pod_templates, render_chart
from tests.chart.stand_ins import stand_ins
from tests.support.cluster import KubectlError
from tests.support.control_plane import ControlPlane
from tests.support.waiting import eventually

RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
AGENTS = CHART / "files" / "agents.konstruct.dev.yaml"


@pytest.fixture(scope="module")
def cluster(control_plane_tools: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Run an API server that knows Agents, and namespaces in which PodSecurity is enforced."""
    with ControlPlane(tmp_path_factory.mktemp("chart")) as made:
        made.apply(
            AGENTS.read_text(),
            *stand_ins(),
            *(
                {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": RESTRICTED}}
                for name in ("konstruct", "tenant-a", "tenant-b", "monitoring")
            ),
        )
        made.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        yield made


@pytest.fixture(scope="module")
def schemas(cluster: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the schemas of everything that the API server knows, Agents among them."""
    folder = tmp_path_factory.mktemp("schemas")

    def known() -> dict[str, object]:
        document: dict[str, object] = json.loads(cluster.kubectl("get", "--raw", "/openapi/v2"))
        return document if "dev.konstruct.v1alpha1.Agent" in str(document) else {}

    assert (
        write_schemas(eventually(known, within_s=60, what="the Agent in the OpenAPI document"), folder) > 100
    )
    return folder


@pytest.fixture(params=sorted(VALUES))
def applied(request: pytest.FixtureRequest, cluster: ControlPlane) -> list[Manifest]:
    """Render a values file, and make the namespaces and accounts that its pods need to be judged."""
    made = render_chart(VALUES[request.param])
    cluster.apply(*kinds(made, "Namespace", "ServiceAccount"))
    return made


def dry_run(cluster: ControlPlane, manifests: list[Manifest]) -> None:
    """Let the API server judge manifests, with its defaults, validation and admission."""
    cluster.kubectl(
        *("apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict"),
        "--filename=-",
        stdin=yaml.safe_dump_all(manifests),
    )


def test_the_api_server_takes_every_manifest(cluster: ControlPlane, applied: list[Manifest]) -> None:
    dry_run(cluster, applied)


def as_pods(manifests: list[Manifest]) -> list[Manifest]:
    """Make a Pod of every template: PodSecurity refuses Pods, and only warns of what makes them."""
    claims = {
        claim["metadata"]["name"]
        for made in kinds(manifests, "StatefulSet")
        for claim in made["spec"].get("volumeClaimTemplates", [])
    }
    pods = []
    for number, (_, template) in enumerate(pod_templates(manifests)):
        pod = copy.deepcopy(template)
        pod["metadata"] |= {"name": f"pod-{number}", "namespace": "konstruct"}
        volumes = pod["spec"]["volumes"]
        for claim in claims - {volume["name"] for volume in volumes}:
            volumes.append({"name": claim, "persistentVolumeClaim": {"claimName": claim}})
        pods.append({**pod, "apiVersion": "v1", "kind": "Pod"})
    return pods


def test_pods_are_let_into_restricted_namespaces(cluster: ControlPlane, applied: list[Manifest]) -> None:
    pods = as_pods(applied)
    assert len(pods) >= 5
    dry_run(cluster, pods)


def test_a_pod_that_is_not_restricted_would_be_refused(
    cluster: ControlPlane, applied: list[Manifest]
) -> None:
    pods = as_pods(applied)
    del pods[0]["spec"]["securityContext"]["seccompProfile"]
    with pytest.raises(KubectlError, match="violates PodSecurity"):
        dry_run(cluster, pods[:1])


def conform(kubeconform: Path, schemas: Path, manifests: list[Manifest]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [kubeconform, "-strict", "-summary", "-schema-location", f"{schemas}/{LOCATION}"],
        input=yaml.safe_dump_all(manifests),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("values", sorted(VALUES))
def test_kubeconform_finds_every_manifest_valid(kubeconform: Path, schemas: Path, values: str) -> None:
    manifests = render_chart(VALUES[values])
    done = conform(kubeconform, schemas, manifests)
    assert done.returncode == 0, done.stdout
    assert f"Valid: {len(manifests)}, Invalid: 0, Errors: 0, Skipped: 0" in done.stdout


@pytest.mark.parametrize("path", ["replica", "template.spec.hostname2"])
def test_kubeconform_would_find_a_misspelt_field(kubeconform: Path, schemas: Path, path: str) -> None:
    deployment = copy.deepcopy(kinds(render_chart(VALUES["dev"]), "Deployment")[0])
    *parents, name = path.split(".")
    place = deployment["spec"]
    for parent in parents:
        place = place[parent]
    place[name] = "x"
    done = conform(kubeconform, schemas, [deployment])
    assert done.returncode == 1
    assert name in done.stdout
