"""Asking live workers what they serve: the question and the form of its answer, for whoever asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from celery import Celery

COMMAND = "konstruct_status"
"""Name of the remote control command."""


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
