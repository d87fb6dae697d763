"""The operator's /metrics when it knows many Agents: ``python -m bench.operator_metrics PORT``."""

from __future__ import annotations

import asyncio
import sys
import time
from datetime import UTC, datetime

from konstruct_operator.agents import AgentStore
from konstruct_operator.metrics import OperatorMetrics
from konstruct_operator.serving import serve
from konstruct_operator.workers import Workers
from shared.kube.leases import WorkerLease, WorkerState, lease_manifest

AGENTS = 10_000
WORKERS = 50


async def main(port: int) -> None:
    """Serve until the process is ended."""
    agents, workers, metrics = AgentStore(), Workers(lease_s=3600), OperatorMetrics()
    for number in range(AGENTS):
        name = {"namespace": f"space-{number % 100}", "name": f"agent-{number}", "uid": str(number)}
        metadata = {**name, "resourceVersion": str(number + 1), "generation": 1}
        metadata["creationTimestamp"] = "2026-01-01T00:00:00Z"
        agents.put({"metadata": metadata, "spec": {"displayName": "Ada"}, "status": {}})
    for number in range(WORKERS):
        lease = lease_manifest(
            name=f"worker-{number}",
            namespace="konstruct",
            pod_uid=None,
            release="konstruct",
            duration_s=3600,
            renewed=datetime.now(UTC),
            state=WorkerState(),
        )
        lease["metadata"] |= {"uid": str(number), "resourceVersion": "1"}
        workers.put(WorkerLease.of(lease), time.monotonic())
    metrics.follow(
        agents=lambda: len(agents),
        ready=agents.ready,
        unsynced=lambda: 0,
        workers=lambda: workers.health(time.monotonic()),
        waiting=lambda: 0,
        refused=lambda: 0,
        missing=lambda: 0,
    )
    await serve(f"127.0.0.1:{port}", metrics, lambda: None, lambda: None)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
