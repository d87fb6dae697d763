"""The operator and the workers' watch on a real API server: many Agents at once, and one edit at a time.

Everything shares the machine: etcd, the API server, the operator, the workers' followers and this program.
So CPU time is counted for each of them: it holds on a busy machine too, where seconds do not.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import statistics
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench.cluster_stage import NAMESPACE, WRITES, Stage, memory_mb
from bench.result import Row, write
from shared.kube.client import KubeClient
from shared.kube.names import agent_path, agents_path
from shared.kube.objects import Object
from tests.support.waiting import eventually

EDITS = 200
SENDERS = 16
WITHIN_S = 1500
CORES = 2
"""Cores of the machine that the targets speak of."""


@dataclass
class Found:
    """What one run found."""

    name: str
    figures: dict[str, float] = field(default_factory=dict)
    cpu_ms: dict[str, float] = field(default_factory=dict)
    lags: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def manifest(number: int, version: int = 0) -> Object:
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


async def create(stage: Stage, numbers: range) -> None:
    """Create Agents, some at a time."""
    client = KubeClient(stage.plane.kubeconfig)
    waiting = iter(numbers)

    async def sender() -> None:
        for number in waiting:
            await client.create(agents_path(NAMESPACE), manifest(number))

    async with asyncio.TaskGroup() as group:
        for _ in range(SENDERS):
            group.create_task(sender())
    await client.close()


async def edit(stage: Stage, numbers: range) -> list[float]:
    """Edit one Agent after the other; seconds from before each request until the last worker has it."""
    client = KubeClient(stage.plane.kubeconfig)
    workers = range(len(stage.workers))
    lags = []
    for number in numbers:
        before = [len(stage.effects(worker)) for worker in workers]
        began = time.time()
        await client.apply(agent_path(NAMESPACE, f"agent-{number}"), manifest(number, version=1), "bench")
        async with asyncio.timeout(60):
            while any(len(stage.effects(n)) == before[n] for n in workers):  # noqa: ASYNC110 - other processes
                await asyncio.sleep(0.05)
        lags.append(max(stage.effects(worker)[-1] for worker in workers) - began)
    await client.close()
    return lags


def run(count: int, workers: int, edits: int) -> Found:
    """Create `count` Agents at once; edit some of them; restart a worker."""
    found = Found(f"{count} agents, {workers} worker{'s' if workers > 1 else ''}")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="konstruct-bench-")))
        stage = Stage(stack, folder, workers)
        asyncio.run(create(stage, range(1)))
        eventually(lambda: stage.ready() == 1, within_s=180, what="the first Agent")  # all has started then
        stage.rest()
        _many(stage, count, found)
        found.lags = asyncio.run(edit(stage, range(1, edits + 1)))
        if not found.notes:
            _restart(stage, count + 1, found)
    return found


def _many(stage: Stage, count: int, found: Found) -> None:
    memory = [memory_mb(worker) for worker in stage.workers]
    cpu, asked, began = stage.cpu_s(), stage.asked(), time.monotonic()
    asyncio.run(create(stage, range(1, count + 1)))
    created = time.monotonic() - began
    while (ready := stage.ready() - 1) < count and time.monotonic() - began < WITHIN_S:
        time.sleep(1)  # each look is work for the operator
    seconds = time.monotonic() - began
    if ready < count:
        found.notes.append(f"{found.name}: {ready} were Ready when it was given up, after {seconds:.0f} s")
    else:
        stage.rest()
    done, used = stage.asked() - asked, stage.cpu_s()
    workers = len(stage.workers)
    found.cpu_ms = {part: (used[part] - cpu[part]) / ready * 1000 for part in used}
    found.cpu_ms["in all"] = sum(found.cpu_ms.values())
    found.cpu_ms[f"{CORES} cores, agents/s"] = CORES * 1000 / found.cpu_ms["in all"]
    grown = statistics.median(
        memory_mb(worker) - mb for worker, mb in zip(stage.workers, memory, strict=True)
    )
    operator = ("operator", (*WRITES, "get", "list"))
    found.figures = {
        "created, s": created,
        "to all Ready, s": seconds,
        "agents/s": ready / seconds,
        "writes/agent": done.count("operator", WRITES, but=("events", "leases")) / ready,
        "Events/agent": done.count("operator", WRITES, only="events") / ready,
        "operator's requests/agent": done.count(*operator) / ready,
        "each worker's requests/agent": done.count("worker", (*WRITES, "get", "list")) / ready / workers,
        "operator at rest, MB": memory_mb(stage.operator),
        "worker, MB/1,000 agents": grown / ready * 1000,
        "writes when a worker restarts": math.nan,
    }


def _restart(stage: Stage, count: int, found: Found) -> None:
    """Restart a worker, and count what the operator writes because of it."""
    stage.rest()  # the last edit is still to be proved
    before = stage.asked()
    stage.workers[0].stop()
    stage.workers[0] = worker = stage.start("worker-0", "bench.follower")
    worker.wait_ready(lambda: f"{count} agents in effect" in worker.tail(), 180)
    eventually(
        lambda: stage.metric('konstruct_operator_workers{state="alive"}') == len(stage.workers),
        within_s=60,
        what="the worker's Lease",
    )
    stage.rest()
    writes = (stage.asked() - before).count("operator", WRITES, but=("leases",))
    found.figures["writes when a worker restarts"] = writes


def main() -> None:
    """Measure, print and write the tables, after each size: the last one takes long."""
    found: list[Found] = []
    for count, workers in json.loads(os.environ.get("BENCH_AGENTS", "[[1000, 4], [10000, 1]]")):
        found.append(run(count, workers, EDITS if workers > 1 else 0))
        report(found)


def report(found: list[Found]) -> None:
    """Print and write the tables."""
    notes = [note for one in found for note in one.notes]
    rows = [Row(one.name, one.figures) for one in found]
    write("cluster", "Agents created at once, until Ready: in effect on every worker", rows, notes)
    rows = [Row(one.name, one.cpu_ms) for one in found]
    write("cluster_cpu", "the same: ms of CPU per agent, from creation to rest", rows, notes)
    edited = [Row(one.name, quantiles(one.lags)) for one in found if one.lags]
    if edited:
        write("apply_to_effect", "edit of an Agent until in effect on the last worker", edited)


def quantiles(seconds: list[float]) -> dict[str, float]:
    """Give the middle, the edge and the worst."""
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {"edits": len(seconds), "p50, s": cuts[49], "p99, s": cuts[98], "worst, s": max(seconds)}


if __name__ == "__main__":
    main()
