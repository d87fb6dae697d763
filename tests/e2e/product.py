"""Konstruct on a cluster, driven as its users drive it: helm, kubectl and the konstruct command."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.kube.objects import Object
from tests.e2e.cluster import KindCluster
from tests.e2e.progress import E2eError
from tests.support.toolchain import tool
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts/konstruct"
HERE = Path(__file__).parent


class Product:
    """One release, in a namespace of its own."""

    def __init__(
        self, cluster: KindCluster, *, release: str = "konstruct", namespace: str = "konstruct"
    ) -> None:
        self.cluster = cluster
        self.release = release
        self.namespace = namespace

    def helm(self, *arguments: str, timeout_s: float = 300) -> str:
        """Run helm against the cluster and return what it prints."""
        command = [
            str(tool("helm")),
            *arguments,
            "--kubeconfig",
            str(self.cluster.kubeconfig),
            "--namespace",
            self.namespace,
        ]
        return self._run(command, timeout_s)

    def install(self, *extra: str) -> str:
        """Install, or upgrade to, the chart of this checkout with the dev values and those of the tests."""
        return self.helm(
            *("upgrade", "--install", self.release, str(CHART), "--wait", "--timeout", "5m"),
            *("--values", str(CHART / "values-dev.yaml"), "--values", str(HERE / "values.yaml")),
            *extra,
            timeout_s=330,
        )

    def konstruct(self, *arguments: str, check: bool = True) -> Object:
        """Run a command of the CLI from outside the cluster, and read its JSON."""
        where = (
            *("--kubeconfig", str(self.cluster.kubeconfig)),
            *("--namespace", self.namespace, "--release", self.release),
        )
        command = [str(Path(sys.executable).with_name("konstruct")), *arguments, *where, "--json"]
        found: Object = json.loads(self._run(command, 180, check=check))
        return found

    def send(self, tenant: str, agent: str, text: str, *, thread: str) -> Object:
        """Send a message and wait for its reply."""
        options = ("--tenant", tenant, "--agent", agent, "--thread", thread)
        return self.konstruct("send", text, *options, check=False)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl."""
        return self.cluster.kubectl(*arguments, stdin=stdin)

    def apply(self, *manifests: Object) -> None:
        """Apply manifests."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)})
        self.kubectl("apply", "-f", "-", stdin=text)

    def get(self, kind: str, name: str, namespace: str | None = None) -> Object:
        """Read an object."""
        found: Object = json.loads(
            self.kubectl("get", kind, name, "-n", namespace or self.namespace, "-o", "json")
        )
        return found

    def pods(self, component: str) -> list[Object]:
        """List the Pods of a component that are not on their way out."""
        selector = f"app.kubernetes.io/instance={self.release},app.kubernetes.io/component={component}"
        text = self.kubectl("get", "pods", "-n", self.namespace, "-l", selector, "-o", "json")
        items: list[Object] = json.loads(text)["items"]
        return [pod for pod in items if "deletionTimestamp" not in pod["metadata"]]

    def restarts(self) -> dict[str, int]:
        """Count the restarts of every container of the release, by Pod."""
        selector = f"app.kubernetes.io/instance={self.release}"
        text = self.kubectl("get", "pods", "-n", self.namespace, "-l", selector, "-o", "json")
        return {
            pod["metadata"]["name"]: sum(
                status["restartCount"] for status in pod["status"].get("containerStatuses", [])
            )
            for pod in json.loads(text)["items"]
        }

    def ready(self, namespace: str, agent: str, *, timeout_s: float = 60) -> Object:
        """Wait until an agent is Ready at its present generation, and return it."""
        self.kubectl(
            *("wait", "-n", namespace, f"agents.konstruct.dev/{agent}"),
            *("--for=condition=Ready", f"--timeout={timeout_s:g}s"),
        )
        return self.get("agents.konstruct.dev", agent, namespace)

    def metrics(self, pod: str, port: int) -> str:
        """Read a Pod's metrics through the API server."""
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}:{port}/proxy/metrics"
        return self.kubectl("get", "--raw", path)

    @contextmanager
    def load(self, *agents: str, rate: float = 5.0) -> Iterator[Load]:
        """Send steadily to `agents` (``tenant/name``) while the context lasts; then wait for every reply."""
        load = Load(self, f"load-{time.time_ns():x}", agents, rate)
        load.start()
        try:
            yield load
            load.finish()
        finally:
            self.kubectl(
                "delete",
                "pod,configmap",
                load.name,
                "-n",
                self.namespace,
                "--ignore-not-found",
                "--wait=false",
            )

    def _run(self, command: list[str], timeout_s: float, *, check: bool = True) -> str:
        done: subprocess.CompletedProcess[str] = self.cluster.run(command, timeout=timeout_s, check=False)
        if check and done.returncode != 0:
            raise AssertionError(
                f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
            )
        return done.stdout


class Load:
    """A steady sender in a Pod, with the workers' own image and settings."""

    def __init__(self, product: Product, name: str, agents: tuple[str, ...], rate: float) -> None:
        self.name = name
        self.messages: list[Object] = []
        """The account of every message; complete after the context."""
        self._product = product
        self._agents = agents
        self._rate = rate

    def start(self) -> None:
        """Start the Pod and wait until its first messages are answered."""
        product = self._product
        [worker] = [
            item
            for item in json.loads(
                product.kubectl("get", "deployments", "-n", product.namespace, "-o", "json")
            )["items"]
            if item["spec"]["template"]["metadata"]["labels"].get("app.kubernetes.io/component") == "worker"
            and item["metadata"]["labels"].get("app.kubernetes.io/instance") == product.release
        ]
        pod = worker["spec"]["template"]["spec"]
        container = pod["containers"][0]
        script = {"name": "load", "mountPath": "/load", "readOnly": True}
        spec = {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": pod["securityContext"],
            "terminationGracePeriodSeconds": 5,
            "containers": [
                {
                    "name": "load",
                    "image": container["image"],
                    "imagePullPolicy": container.get("imagePullPolicy", "IfNotPresent"),
                    "command": ["python", "/load/load.py", "--rate", str(self._rate), *self._agents],
                    "env": container["env"],
                    "envFrom": container.get("envFrom", []),
                    "securityContext": container["securityContext"],
                    "volumeMounts": [script, {"name": "tmp", "mountPath": "/tmp"}],
                }
            ],
            "volumes": [
                {"name": "load", "configMap": {"name": self.name}},
                {"name": "tmp", "emptyDir": {}},
            ],
        }
        metadata = {
            "name": self.name,
            "namespace": product.namespace,
            "labels": {"konstruct.dev/e2e": "load"},
        }
        product.apply(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": metadata,
                "data": {"load.py": (HERE / "load.py").read_text()},
            },
            {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec},
        )
        eventually(lambda: len(self.so_far()) >= len(self._agents), within_s=90)

    def so_far(self) -> list[Object]:
        """Read the account of the messages finished until now."""
        try:
            text = self._product.kubectl("logs", self.name, "-n", self._product.namespace)
        except E2eError:  # not started yet
            return []
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def finish(self) -> None:
        """End the sending, wait for every reply and take the account."""
        namespace = self._product.namespace
        self._product.kubectl("exec", self.name, "-n", namespace, "--", "sh", "-c", "kill -TERM 1")
        self._product.kubectl(
            *("wait", f"pod/{self.name}", "-n", namespace),
            *("--for=jsonpath={.status.phase}=Succeeded", "--timeout=240s"),
        )
        *self.messages, last = self.so_far()
        assert last["done"], "the sender did not finish its account"
        assert last["sent"] == len(self.messages)

    def assert_nothing_lost(self) -> None:
        """Every message has its one reply."""
        ids = [message["message_id"] for message in self.messages]
        assert len(ids) == len(set(ids))
        lost = [message for message in self.messages if message["status"] == "lost"]
        assert not lost, f"{len(lost)} of {len(ids)} messages have no reply: {lost[:3]}"
