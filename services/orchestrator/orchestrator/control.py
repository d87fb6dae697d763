"""Asking live workers what they serve, over Celery's remote control."""

from __future__ import annotations

import heapq
import os
from typing import Any

from celery import Celery
from celery.worker.control import inspect_command
from pydantic import BaseModel, ConfigDict

from orchestrator.worker import runtime

COMMAND = "konstruct_status"
"""Name of the remote control command."""

MAX_LISTED = 200
"""Agents, and problems, that one worker's answer lists; it counts all."""


class AgentStatus(BaseModel):
    """An agent in effect in a worker."""

    model_config = ConfigDict(frozen=True)

    tenant_id: str
    """Its tenant."""

    agent: str
    """Its name."""

    revision: str
    """Revision in effect."""

    group: str
    """Model group it asks for."""

    suspended: bool
    """Whether it is switched off."""


class ManifestProblem(BaseModel):
    """Something applied that is not in effect."""

    model_config = ConfigDict(frozen=True)

    where: str
    """The manifest."""

    message: str
    """What is wrong and what to do."""


class WorkerStatus(BaseModel):
    """One worker's own account."""

    model_config = ConfigDict(frozen=True)

    worker: str
    """Name of the process in leases."""

    pid: int
    """Its process id, on its own host."""

    in_flight: int
    """Messages under way."""

    draining: bool
    """Whether it is shutting down."""

    watching: bool
    """Whether it follows changes of agents."""

    accepting: bool = True
    """Whether it takes messages: its agents are known to be up to date."""

    agents: list[AgentStatus]
    """Agents in effect, the first of them by tenant and name."""

    agents_total: int = 0
    """Agents in effect, all of them."""

    problems: list[ManifestProblem]
    """What is not in effect, and why: the first of it."""

    problems_total: int = 0
    """How much is not in effect, in all."""


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


def worker_status(app: Celery, timeout_s: float = 1.0, *, limit: int | None = None) -> list[WorkerStatus]:
    """Ask every live worker; those that answer within `timeout_s` seconds are returned, by name.

    All of that time is waited, for the number of workers is not known; with `limit`, only until so many
    have answered.

    Raises:
        kombu.exceptions.OperationalError: Redis cannot be reached.
    """
    replies: list[dict[str, Any]] = (
        app.control.broadcast(COMMAND, reply=True, timeout=timeout_s, limit=limit) or []
    )
    answers = [answer for reply in replies for answer in reply.values() if "worker" in answer]
    return sorted((WorkerStatus.model_validate(answer) for answer in answers), key=lambda s: s.worker)
