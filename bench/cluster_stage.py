"""A small cluster to measure: a control plane, the operator and the followers of some workers.

Each program has the rights that the chart gives it, and a user of its own in the audit log.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from konstruct_cli.stack.process import ManagedProcess, claim_port
from shared.kube.objects import Object
from shared.models import TENANT_LABEL
from tests.support.control_plane import ControlPlane
from tests.support.toolchain import tool

ROOT = Path(__file__).parents[1]
NAMESPACE = "bench"
HOME = "konstruct"
WRITES = ("create", "update", "patch", "delete")
QUIET_S = 5.0
"""Seconds without a request other than for Leases after which everything is at rest."""


@dataclass(frozen=True)
class Asked:
    """What was asked of the API server so far: (who, verb, resource) and how often."""

    requests: Counter[tuple[str, str, str]]

    def __sub__(self, earlier: Asked) -> Asked:
        return Asked(self.requests - earlier.requests)

    def count(self, who: str, verbs: tuple[str, ...], *, only: str = "", but: tuple[str, ...] = ()) -> int:
        """Count the requests of `who`, of one resource or of all but some."""
        return sum(
            number
            for (user, verb, resource), number in self.requests.items()
            if user == who and verb in verbs and resource not in but and only in ("", resource)
        )


class Stage:
    """The cluster."""

    def __init__(self, stack: ExitStack, folder: Path, workers: int) -> None:
        self._folder = folder
        self._stack = stack
        self._ports: dict[str, int] = {}
        self._audit_read = 0
        self._requests: Counter[tuple[str, str, str]] = Counter()
        self.plane = stack.enter_context(
            ControlPlane(
                folder / "plane",
                controllers=(),
                audit=True,
                # One file: the default size would be passed by ten thousand agents.
                apiserver_flags=("--audit-log-maxsize=4096",),
            )
        )
        self.plane.apply((ROOT / "charts/konstruct/files/agents.konstruct.dev.yaml").read_text())
        self.plane.kubectl("wait", "crd/agents.konstruct.dev", "--for=condition=Established")
        self.plane.apply(_namespace(NAMESPACE, {TENANT_LABEL: NAMESPACE}), _namespace(HOME, {}))
        self._kubeconfigs = {part: self._account(part) for part in ("operator", "worker")}
        self.workers = [self.start(f"worker-{number}", "bench.follower") for number in range(workers)]
        self.operator = self.start("operator", "konstruct_operator")

    def start(self, name: str, module: str) -> ManagedProcess:
        """Start a program of Konstruct's in this cluster; it ends with the stage."""
        kubeconfig = self._kubeconfigs[name.partition("-")[0]]
        port = self._ports[name] = claim_port(name, None)
        environment = {
            **self.plane.environment(kubeconfig),
            "PATH": os.environ["PATH"],
            "KONSTRUCT_KUBECONFIG": str(kubeconfig),
            "KONSTRUCT_POD_NAME": name,
            "KONSTRUCT_POD_NAMESPACE": HOME,
            "KONSTRUCT_OPERATOR_LISTEN": f"127.0.0.1:{port}",
        }
        process = ManagedProcess(
            name, [sys.executable, "-m", module], log=self._folder / f"{name}.log", env=environment
        )
        return self._stack.enter_context(process)

    def cpu_s(self) -> dict[str, float]:
        """CPU time of each part so far; the workers' is that of all together."""
        own = psutil.Process().cpu_times()
        return {
            "etcd": _cpu_s(self.plane.pid("etcd")),
            "API server": _cpu_s(self.plane.pid()),
            "operator": _cpu_s(self.operator.pid),
            "workers": sum(_cpu_s(worker.pid) for worker in self.workers),
            "this program": own.user + own.system,
        }

    def metric(self, sample: str) -> int:
        """Read one of the operator's metrics, 0 while there is none; `sample` is its name with its labels."""
        url = f"http://127.0.0.1:{self._ports['operator']}/metrics"
        try:
            lines = httpx.get(url, timeout=30, trust_env=False).text.splitlines()
        except httpx.TransportError:
            return 0
        return int(sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{sample} ")))

    def ready(self) -> int:
        """Count the Agents that the operator has made Ready; asking the API server would be a load."""
        return self.metric('konstruct_operator_agents{ready="true"}')

    def rest(self, within_s: float = 600.0) -> None:
        """Wait until the operator and the workers have asked for nothing for a while."""
        deadline = time.monotonic() + within_s
        since, before = time.monotonic(), -1
        while time.monotonic() - since < QUIET_S:
            assert time.monotonic() < deadline, f"no rest within {within_s:g} s"
            requests = self.asked().requests
            now = sum(
                number for (_, _, resource), number in requests.items() if resource not in ("", "leases")
            )
            if now != before:
                since, before = time.monotonic(), now
            time.sleep(0.5)

    def effects(self, worker: int) -> list[float]:
        """Times at which edits came into effect in a worker."""
        text = (self._folder / f"worker-{worker}.log").read_text().rpartition("\n")[0]
        return [float(line.split()[1]) for line in text.splitlines() if line.startswith("effect ")]

    def asked(self) -> Asked:
        """Count what was asked of the API server, watches apart."""
        with self.plane.audit_log.open("rb") as log:
            log.seek(self._audit_read)
            for line in log:
                if not line.endswith(b"\n"):
                    break  # it is being written
                self._audit_read += len(line)
                event = json.loads(line)
                if event["verb"] != "watch":
                    user = event["user"].get("username", "").rpartition("-")[2]
                    self._requests[user, event["verb"], event.get("objectRef", {}).get("resource", "")] += 1
        return Asked(self._requests.copy())

    def _account(self, part: str) -> Path:
        """Give a part its rights, and a kubeconfig."""
        command: list[str | Path] = [
            tool("helm"),
            "template",
            "konstruct",
            ROOT / "charts/konstruct",
            "--namespace",
            HOME,
        ]
        command += ["--show-only", f"templates/{part}/rbac.yaml"]
        command += ["--values", ROOT / "charts/konstruct/values-dev.yaml"]
        self.plane.apply(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        return self.plane.kubeconfig_for(HOME, f"konstruct-{part}", lifetime_s=7200)


def memory_mb(process: ManagedProcess) -> float:
    """Resident memory of a program."""
    return float(psutil.Process(process.pid).memory_info().rss / 1e6)


def _cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def _namespace(name: str, labels: Mapping[str, str]) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": dict(labels)}}
