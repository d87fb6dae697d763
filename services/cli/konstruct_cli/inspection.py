"""Looking at a stack from outside: who is up, which groups can serve, how often another group had to."""

from __future__ import annotations

import httpx
import psycopg
import redis
from kombu.exceptions import OperationalError
from pydantic import BaseModel, ValidationError
from sqlalchemy.exc import SQLAlchemyError

from konstruct_cli.client import Connection
from konstruct_cli.cluster.agents import AgentsStatus, look_at_agents
from konstruct_cli.replicas import HTTP_TIMEOUT_S, Follower, Replicas, pool_client
from orchestrator.control import WorkerStatus, worker_status
from orchestrator.main import QUEUE, app, redis_tls
from shared.config import ConfigurationError, Settings
from shared.contract import GroupHealth, Health
from shared.db import refuse_unsafe_role
from shared.rls import tenant_scope
from shared.tls import certificate_fault

WORKER_TIMEOUT_S = 1.0
"""How long workers have to answer; all of it is waited, for their number is not known."""

_NO_TENANT = "konstruct-status"
"""A tenant that has no rows, for a look at the connection itself."""


class PartStatus(BaseModel):
    """Whether one part answers."""

    ok: bool
    """It answers and is fit for use."""

    problem: str | None = None
    """What is wrong and what to do."""


class QueueStatus(PartStatus):
    """Redis."""

    waiting: int | None = None
    """Deliveries that no worker has taken."""


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

    cluster: AgentsStatus | None = None
    """Agents of the cluster; null where they come from a folder."""


def inspect(connection: Connection, follower: Follower | None = None) -> StackStatus:
    """Look at every part; a part that does not answer is part of the result, never an error.

    A `follower` that looked before tells what the pool was asked since.
    """
    settings = connection.settings
    postgres = look_at_postgres(connection)
    queue = look_at_redis(settings)
    pool = look_at_pool(settings, follower)
    workers = look_at_workers() if queue.ok else []
    return StackStatus(
        ok=postgres.ok and queue.ok and pool.ok and pool.ready and any(each.accepting for each in workers),
        source=connection.source,
        postgres=postgres,
        redis=queue,
        llm_pool=pool,
        workers=workers,
        cluster=look_at_agents(settings),
    )


def look_at_postgres(connection: Connection) -> PartStatus:
    """Connect as the service role."""
    try:
        with tenant_scope(_NO_TENANT):
            refuse_unsafe_role(connection.engine)
    except (SQLAlchemyError, psycopg.Error) as error:  # the driver's own where no connection can be made
        return PartStatus(ok=False, problem=_why(error))
    except ConfigurationError as error:
        return PartStatus(ok=False, problem=str(error))
    return PartStatus(ok=True)


def look_at_redis(settings: Settings) -> QueueStatus:
    """Count the deliveries that wait."""
    client = redis.Redis.from_url(
        settings.redis_url.get_secret_value(), socket_timeout=HTTP_TIMEOUT_S, **redis_tls(settings)
    )
    try:
        return QueueStatus(ok=True, waiting=int(client.llen(QUEUE)))
    except (redis.RedisError, OSError) as error:
        return QueueStatus(ok=False, problem=_why(error))
    finally:
        client.close()


def look_at_pool(settings: Settings, follower: Follower | None = None) -> PoolStatus:
    """Read /health and /readyz of the pool, and /metrics of all its replicas."""
    url = settings.llm_pool_url.rstrip("/")
    try:
        with pool_client(settings, base_url=url) as client:
            health = Health.model_validate_json(client.get("/health").raise_for_status().content)
            ready = client.get("/readyz").is_success
    except (httpx.HTTPError, ValidationError) as error:
        return PoolStatus(url=url, ok=False, problem=_why(error))
    replicas = (follower or Follower(settings)).look()
    asked = replicas.since_start
    return PoolStatus(
        url=url,
        ok=True,
        version=health.version,
        ready=ready,
        in_flight=health.in_flight,
        groups=health.groups,
        replies=asked.answers,
        fallback_replies=asked.degraded,
        fallback_ratio=asked.fallback_ratio,
        failures=asked.failed,
        replicas=replicas,
    )


def _why(error: Exception) -> str:
    return f"does not answer ({certificate_fault(error) or type(error).__name__})"


def look_at_workers(timeout_s: float = WORKER_TIMEOUT_S, *, limit: int | None = None) -> list[WorkerStatus]:
    """Ask the live workers, or the first `limit` to answer; none when the queue cannot be reached."""
    try:
        return worker_status(app, timeout_s, limit=limit)
    except (OperationalError, OSError):
        return []
