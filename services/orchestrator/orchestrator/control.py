"""The answer of a worker that is asked what it serves, over Celery's remote control."""

from __future__ import annotations

import heapq
import os
from typing import Any

from celery.worker.control import inspect_command

from orchestrator.asking import COMMAND, AgentStatus, ManifestProblem, WorkerStatus
from orchestrator.worker import runtime

MAX_LISTED = 200
"""Agents, and problems, that one worker's answer lists; it counts all."""


@inspect_command(name=COMMAND)
def _konstruct_status(_state: Any) -> dict[str, Any]:
    worker = runtime()
    agents, problems = worker.catalog.agents, (*worker.source.problems(), *worker.catalog.problems)
    return WorkerStatus(
        worker=worker.owner,
        pid=os.getpid(),
        in_flight=len(worker.running),
        draining=worker.running.draining,
        watching=worker.source.healthy(),
        accepting=worker.accepting,
        agents=[
            AgentStatus(
                tenant_id=agent.tenant_id,
                agent=agent.name,
                revision=agent.revision,
                group=agent.configuration.persona.model.group,
                suspended=agent.suspended,
            )
            for _, agent in heapq.nsmallest(MAX_LISTED, agents.items())
        ],
        agents_total=len(agents),
        problems=[
            ManifestProblem(where=problem.where, message=problem.message) for problem in problems[:MAX_LISTED]
        ],
        problems_total=len(problems),
    ).model_dump(mode="json")
