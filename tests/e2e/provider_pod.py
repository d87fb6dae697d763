"""The models of the tests: two providers that can be switched, and one real small model."""

from __future__ import annotations

import json
from typing import Any

from tests.e2e.agents import namespace
from tests.e2e.cluster import KindCluster
from tests.e2e.pods import pod

NAMESPACE = "providers"
"""Where they run."""

MODEL_KEY = "the-key-of-the-small-model"
"""Key that the small model asks for."""

KEYS = {
    "ANTHROPIC_API_KEY": "sk-ant-canary",
    "OPENAI_API_KEY": "sk-canary",
    "MODEL_SERVER_KEY": MODEL_KEY,
}
"""Keys that the pool gets."""

_SWITCH = """
import sys, urllib.request
method, path, body = sys.argv[1:]
address = "http://127.0.0.1:8000" + path
urllib.request.urlopen(urllib.request.Request(address, body.encode(), method=method), timeout=10)
"""
"""A program, run in the providers' Pod, that tells them how to behave."""


class Providers:
    """Anthropic and OpenAI, as the tests want them."""

    def __init__(self, cluster: KindCluster) -> None:
        self._cluster = cluster

    def install(self) -> None:
        """Start the providers and the model, and wait until they are ready."""
        objects = [
            namespace(NAMESPACE),
            _placed(pod("providers", "providers", ready={"tcpSocket": {"port": 8000}})),
            _placed(
                pod(
                    "model",
                    "model",
                    env={"MODEL_SERVER_KEY": MODEL_KEY},
                    ready={"tcpSocket": {"port": 8080}},
                    volumes={"/tmp": {"emptyDir": {}}},
                )
            ),
            _service("providers", 8000, 8001, 8002),
            _service("model", 8080),
        ]
        listed = {"apiVersion": "v1", "kind": "List", "items": objects}
        self._cluster.kubectl("apply", "-f", "-", stdin=json.dumps(listed))
        self._cluster.kubectl(
            *("wait", "pod", "--all", "-n", NAMESPACE, "--for=condition=Ready", "--timeout=120s")
        )
        self._tell("PUT", "/", json.dumps({"kind": "echo", "delay_s": 0.2}))

    def up(self) -> None:
        """Have both providers answer."""
        self._tell("POST", "/up")

    def down(self) -> None:
        """Have both providers refuse connections."""
        self._tell("POST", "/down")

    def _tell(self, method: str, path: str, body: str = "") -> None:
        command = ("exec", "providers", "-n", NAMESPACE, "--", "python3", "-c", _SWITCH, method, path, body)
        self._cluster.kubectl(*command)


def _placed(made: dict[str, Any]) -> dict[str, Any]:
    return {**made, "metadata": {**made["metadata"], "namespace": NAMESPACE}}


def _service(name: str, *ports: int) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "selector": {"app": name},
            "ports": [{"name": f"port-{port}", "port": port} for port in ports],
        },
    }
