"""What ``konstruct status`` sees of a stack, and writes as JSON. Fields are added, never changed."""

from __future__ import annotations

from pydantic import BaseModel

from konstruct_cli.replicas import Replicas
from orchestrator.asking import WorkerStatus
from shared.contract import GroupHealth


class PartStatus(BaseModel):
    """Whether one part answers."""

    ok: bool
    """It answers and is fit for use."""

    problem: str | None = None
    """What is wrong and what to do."""


class QueueStatus(PartStatus):
    """Redis."""

    waiting: int | None = None
    """Deliveries that no worker has taken: the few messages that are next, not all that wait."""


class BacklogStatus(BaseModel):
    """What waits to be answered, as PostgreSQL counts it: nearly all of it is not in Redis yet."""

    problem: str | None = None
    """Why it could not be counted, and what to do; the numbers are then null."""

    messages: int | None = None
    """Unfinished messages that no worker works on, of all tenants."""

    longest_line: int | None = None
    """Those of them that wait for their turn, of the tenant that has most."""

    line_limit: int
    """Messages of a tenant that may wait for their turn; one more is refused."""

    longest_wait_s: float | None = None
    """Seconds since the oldest message that waits was received; null where none waits."""


class PoolStatus(PartStatus):
    """The llm-pool, in its own words."""

    url: str
    """Where it is."""

    version: str | None = None
    """Its version."""

    ready: bool = False
    """Whether it takes traffic: some group can serve."""

    in_flight: int = 0
    """Completions under way."""

    groups: list[GroupHealth] = []
    """Model groups."""

    replies: int = 0
    """Requests that a model answered, since the pool's replicas started."""

    fallback_replies: int = 0
    """Those of them that another group answered than the one asked for."""

    fallback_ratio: float | None = None
    """Their share; null before the first reply."""

    failures: int = 0
    """Requests that no model answered, for groups that there are."""

    replicas: Replicas = Replicas()
    """The same, and more, group by group."""


class ClusterAgent(BaseModel):
    """One Agent of the cluster."""

    namespace: str
    """Its namespace."""

    agent: str
    """Its name."""

    tenant_id: str | None
    """Its tenant, if it has one."""

    revision: str | None
    """Its active revision, if any."""

    ready: bool
    """Whether the operator calls it ready."""

    reason: str
    """Why it is not ready, in a word."""

    synced: int
    """Live workers that have it in effect as it is now."""


class AgentsStatus(BaseModel):
    """The Agents that the release serves, as the Kubernetes API shows them."""

    problem: str | None = None
    """Why they could not be read."""

    workers: int = 0
    """Workers that hold a Lease, silent ones too."""

    silent: list[str] = []
    """Workers whose Lease has run out, by name of their Pod: they take no messages."""

    agents: list[ClusterAgent] = []
    """Agents."""


class StackStatus(BaseModel):
    """Everything that ``konstruct status`` tells."""

    ok: bool
    """A message sent now can be answered."""

    source: str
    """Which stack this is."""

    postgres: PartStatus
    """The database."""

    redis: QueueStatus
    """The queue."""

    llm_pool: PoolStatus
    """The llm-pool."""

    workers: list[WorkerStatus]
    """Workers that answered."""

    backlog: BacklogStatus | None = None
    """What waits; null where PostgreSQL does not answer, or an older version looked."""

    in_flight: int = 0
    """Messages under way, in all workers that answered."""

    cluster: AgentsStatus | None = None
    """Agents of the cluster; null where they come from a folder."""
