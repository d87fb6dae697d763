"""The commands of docs/rotation.md, run as they stand: what they make of a Secret, and what is restarted."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import time
from datetime import datetime
from pathlib import Path

from tests.chart.rendering import ENVIRONMENTS, kinds, render_chart
from tests.support.control_plane import ControlPlane
from tests.support.kubernetes import MakeNamespace
from tests.support.toolchain import kubectl
from tests.support.waiting import eventually

PAGE = Path(__file__).parents[2] / "docs" / "rotation.md"


def steps(heading: str) -> list[str]:
    """Return the scripts of a section, one for each step."""
    section = PAGE.read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"```sh\n(.+?)```", section, re.DOTALL)


def test_the_steps_for_the_pools_token(control_plane: ControlPlane, make_namespace: MakeNamespace) -> None:
    rotate(
        control_plane,
        make_namespace(),
        "The token of the llm-pool",
        "konstruct-llm-pool",
        "llm-pool",
        "token",
    )


def rotate(cluster: ControlPlane, namespace: str, heading: str, secret: str, prefix: str, kind: str) -> None:
    """Take the steps on a Secret of staging, and look at what they leave."""
    key, second = f"{prefix}-{kind}", f"{prefix}-second-{kind}"
    deployments = kinds(render_chart(ENVIRONMENTS["staging"], namespace=namespace), "Deployment")
    cluster.apply(
        *deployments,
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": secret, "namespace": namespace},
            "stringData": {key: "the-first-of-them"},
        },
    )

    def take(step: str) -> dict[str, str]:
        # Nothing rolls out here: there is no controller of Deployments.
        script = step.replace("--namespace konstruct", f"--namespace {namespace}")
        script = script.replace("rollout status", "rollout status --watch=false")
        before = restarts()
        # kubectl restarts nothing twice within one of the clock's seconds.
        eventually(lambda: int(time.time()) not in map(second_of, before.values()), what="another second")
        path = f"{kubectl().parent}:{os.environ['PATH']}"
        subprocess.run(
            ["sh", "-eu", "-c", script], env={**cluster.environment(), "PATH": path}, check=True, timeout=60
        )
        assert restarts().keys() == before.keys()
        assert all(at != before[name] for name, at in restarts().items())
        data = cluster.get("secret", secret, f"--namespace={namespace}")["data"]
        return {name: base64.b64decode(value).decode() for name, value in data.items()}

    def second_of(restarted_at: str | None) -> int:
        return int(datetime.fromisoformat(restarted_at).timestamp()) if restarted_at else 0

    def restarts() -> dict[str, str | None]:
        return {
            one["metadata"]["name"]: one["spec"]["template"]["metadata"]
            .get("annotations", {})
            .get("kubectl.kubernetes.io/restartedAt")
            for one in cluster.get("deployments", f"--namespace={namespace}")["items"]
        }

    one, two, three = steps(heading)
    both = take(one)
    assert both[key] == "the-first-of-them"
    assert len(both[second]) > 32
    assert take(two) == {key: both[second], second: "the-first-of-them"}
    assert take(three) == {key: both[second]}


def test_the_steps_for_the_signing_key(control_plane: ControlPlane, make_namespace: MakeNamespace) -> None:
    rotate(
        control_plane,
        make_namespace(),
        "The key that signs deliveries",
        "konstruct-signing",
        "payload",
        "key",
    )
