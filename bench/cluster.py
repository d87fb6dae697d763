"""The operator and the workers' watch on a real API server: many Agents at once, and one edit at a time.

Everything shares two cores: etcd, the API server, the operator, the workers' followers and this program,
so the figures are those of a whole small cluster, not of the operator alone.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil

from bench.result import Row, write
from konstruct_cli.stack.process import ManagedProcess, claim_port
from shared.kube.client import KubeClient
from shared.kube.names import FIELD_MANAGER, agent_path, agents_path
from shared.kube.objects import ConditionType, StoredAgent
from tests.support.control_plane import ControlPlane

ROOT = Path(__file__).parents[1]
NAMESPACE = "bench"
EDITS = 200
SENDERS = 16
WITHIN_S = 1500
WRITES = ("create", "update", "patch", "delete")


class Cluster:
    """A control plane, the operator, and the followers of some workers."""

    def __init__(self, stack: ExitStack, folder: Path, workers: int) -> None:
        self._folder = folder
        self.plane = stack.enter_context(ControlPlane(folder / "plane", controllers=(), audit=True))
        self.plane.apply((ROOT / "charts/konstruct/files/agents.konstruct.dev.yaml").read_text())
        self.plane.kubectl("wait", "crd/agents.konstruct.dev", "--for=condition=Established")
        labels = {"konstruct.dev/tenant-id": NAMESPACE}
        self.plane.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}},
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "konstruct"}},
        )
        self.workers = [
            stack.enter_context(self.start(f"worker-{number}", "bench.follower")) for number in range(workers)
        ]
        self.operator = stack.enter_context(self.start("operator", "konstruct_operator"))

    def start(self, name: str, module: str) -> ManagedProcess:
        """Start a program of Konstruct's in this cluster."""
        environment = {
            **self.plane.environment(),
            "PATH": os.environ["PATH"],
            "KONSTRUCT_KUBECONFIG": str(self.plane.kubeconfig),
            "KONSTRUCT_POD_NAME": name,
            "KONSTRUCT_POD_NAMESPACE": "konstruct",
            "KONSTRUCT_OPERATOR_LISTEN": f"127.0.0.1:{claim_port(name, None)}",
        }
        process = ManagedProcess(
            name, [sys.executable, "-m", module], log=self._folder / f"{name}.log", env=environment
        )
        process.start()
        return process

    def memory_mb(self, process: ManagedProcess) -> float:
        """Resident memory of a program."""
        return float(psutil.Process(process.pid).memory_info().rss / 1e6)

    def effects(self, worker: int) -> list[float]:
        """Times at which edits came into effect in a worker."""
        text = (self._folder / f"worker-{worker}.log").read_text()
        return [float(line.split()[0]) for line in text.splitlines() if line[:1].isdigit() and "." in line]

    def operator_writes(self) -> Counter[str]:
        """Count the operator's writes by resource, without Events and its own Lease."""
        found: Counter[str] = Counter()
        for event in self.plane.audit_events():
            target = event.get("objectRef", {})
            if (
                event["verb"] in WRITES
                and f"fieldManager={FIELD_MANAGER}" in event["requestURI"]
                and target["resource"] not in ("events", "leases")
            ):
                found[target["resource"]] += 1
        return found


def manifest(number: int, version: int = 0) -> dict[str, Any]:
    """Build an agent of ordinary size (about 2 kB)."""
    return {
        "apiVersion": "konstruct.dev/v1alpha1",
        "kind": "Agent",
        "metadata": {"name": f"agent-{number}", "namespace": NAMESPACE},
        "spec": {
            "displayName": f"Agent {number}",
            "systemPrompt": f"Version {version}. " + "You answer customers of the shop, briefly. " * 30,
            "identity": {"background": "You have worked here for years and know every product. " * 10},
        },
    }


async def create(client: KubeClient, count: int) -> None:
    """Create `count` Agents, some at a time."""
    numbers = iter(range(count))

    async def sender() -> None:
        for number in numbers:
            await client.create(agents_path(NAMESPACE), manifest(number))

    async with asyncio.TaskGroup() as group:
        for _ in range(SENDERS):
            group.create_task(sender())


async def until_ready(client: KubeClient, count: int) -> None:
    """Wait until all of `count` Agents are Ready, by a watch: lists would be a load of their own."""
    ready: set[str] = set()
    async with asyncio.timeout(WITHIN_S):
        items, version = await client.list(agents_path(NAMESPACE))
        for item in items:
            _note(item, ready)
        while len(ready) < count:
            async for kind, item in await client.watch(agents_path(NAMESPACE), version):
                version = item["metadata"]["resourceVersion"]
                if kind != "BOOKMARK":
                    _note(item, ready)
                if len(ready) >= count:
                    return


def _note(item: dict[str, Any], ready: set[str]) -> None:
    agent = StoredAgent.of(item)
    if agent.is_true(ConditionType.READY):
        ready.add(agent.name)


async def many(count: int, workers: int, edits: int) -> tuple[Row, list[float]]:
    """Create `count` Agents at once; then edit one at a time and time each until it is in effect."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="konstruct-bench-")))
        cluster = Cluster(stack, folder, workers)
        client = KubeClient(cluster.plane.kubeconfig)
        await client.create(
            agents_path(NAMESPACE), manifest(count)
        )  # everything has started once it is Ready
        await until_ready(client, 1)
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            group.create_task(create(client, count))
            group.create_task(until_ready(client, count + 1))
        seconds = time.monotonic() - began
        writes = cluster.operator_writes().total() / (count + 1)
        await asyncio.sleep(5)  # at rest
        row = Row(
            f"{count} agents, {workers} worker{'s' if workers > 1 else ''}",
            {
                "to all Ready, s": seconds,
                "agents/s": count / seconds,
                "writes/agent": writes,
                "operator, MB": cluster.memory_mb(cluster.operator),
                "worker, MB": statistics.median(map(cluster.memory_mb, cluster.workers)),
            },
        )
        lags = [await edit(cluster, client, number, workers) for number in range(edits)]
        before = cluster.operator_writes()
        cluster.workers[0].stop()
        stack.enter_context(cluster.start("worker-0", "bench.follower"))
        await asyncio.sleep(15)
        row.figures["writes when a worker restarts"] = cluster.operator_writes().total() - before.total()
        await client.close()
        return row, lags


async def edit(cluster: Cluster, client: KubeClient, number: int, workers: int) -> float:
    """Edit an agent; seconds from before the request until the last worker has it in effect."""
    counts = [len(cluster.effects(worker)) for worker in range(workers)]
    began = time.time()
    await client.apply(agent_path(NAMESPACE, f"agent-{number}"), manifest(number, version=1), "bench")
    async with asyncio.timeout(60):
        while not all(len(cluster.effects(n)) > counts[n] for n in range(workers)):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return max(cluster.effects(worker)[-1] for worker in range(workers)) - began


def main() -> None:
    """Measure, print and write the tables."""
    sizes = json.loads(os.environ.get("BENCH_AGENTS", "[[1000, 4], [10000, 1]]"))
    rows = []
    lags: list[float] = []
    for count, workers in sizes:
        row, seen = asyncio.run(many(count, workers, EDITS if workers > 1 else 0))
        rows.append(row)
        lags += seen
    write("cluster", "operator: agents created at once, until ConfigSynced on every worker", rows)
    quantiles = statistics.quantiles(lags, n=100)
    figures = {"p50, s": quantiles[49], "p99, s": quantiles[98], "worst, s": max(lags)}
    write("apply_to_effect", "edit of an Agent until in effect on all of 4 workers", [Row("watch", figures)])


if __name__ == "__main__":
    main()
