"""Looking at a stack from outside: who is up, which groups can serve, how often another group had to."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

import httpx
import psycopg
import redis
from kombu.exceptions import OperationalError
from pydantic import ValidationError
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from konstruct_cli.client import Connection
from konstruct_cli.replicas import HTTP_TIMEOUT_S, Follower, pool_client
from konstruct_cli.seen import AgentsStatus, BacklogStatus, PartStatus, PoolStatus, QueueStatus, StackStatus
from orchestrator.asking import WorkerStatus, worker_status
from orchestrator.main import app
from orchestrator.wire import QUEUE, redis_tls
from shared.config import PREFIX, ConfigurationError, Settings
from shared.contract import Health
from shared.db import make_system_engine, refuse_unsafe_role
from shared.rls import tenant_scope
from shared.tls import certificate_fault

WORKER_TIMEOUT_S = 1.0
"""How long workers have to answer; all of it is waited, for their number is not known."""

_NO_TENANT = "konstruct-status"
"""A tenant that has no rows, for a look at the connection itself."""

_BACKLOG = text("select konstruct_backlog(), konstruct_longest_line(), konstruct_oldest_wait()")

_FUNCTION_MISSING = "42883"
"""PostgreSQL's code for a function that there is not."""

Seen = TypeVar("Seen")
"""What a look finds."""


def inspect(connection: Connection, follower: Follower | None = None) -> StackStatus:
    """Look at every part; a part that does not answer is part of the result, never an error.

    They are looked at side by side: one that is silent costs its own timeout and no more. A `follower` that
    looked before tells what the pool was asked since.

    Raises:
        ConfigurationError: a setting does not say where a part is.
    """
    settings = connection.settings
    database = _aside(lambda: look_at_database(connection))
    queue = _aside(lambda: look_at_queue(settings))
    pool = _aside(lambda: look_at_pool(settings, follower))
    cluster = _aside(lambda: _look_at_agents(settings))
    (postgres, backlog), (redis_, workers), llm_pool = database(), queue(), pool()
    return StackStatus(
        ok=(
            postgres.ok
            and redis_.ok
            and llm_pool.ok
            and llm_pool.ready
            and any(each.accepting for each in workers)
        ),
        source=connection.source,
        postgres=postgres,
        redis=redis_,
        llm_pool=llm_pool,
        workers=workers,
        backlog=backlog,
        in_flight=sum(each.in_flight for each in workers),
        cluster=cluster(),
    )


def _aside(look: Callable[[], Seen]) -> Callable[[], Seen]:
    """Look in a thread of its own, which the end of the process does not wait for; returns what waits."""
    found: Future[Seen] = Future()

    def run() -> None:
        try:
            found.set_result(look())
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            found.set_exception(error)

    Thread(target=run, daemon=True).start()
    return found.result


def _look_at_agents(settings: Settings) -> AgentsStatus | None:
    if settings.agents_dir is not None or settings.pod_namespace is None:
        return None
    # What speaks to Kubernetes, only where agents come from there.
    from konstruct_cli.cluster.agents import look_at_agents  # noqa: PLC0415

    return look_at_agents(settings)


def look_at_database(connection: Connection) -> tuple[PartStatus, BacklogStatus | None]:
    """Look at PostgreSQL, and if it answers at what waits in it."""
    postgres = look_at_postgres(connection)
    return postgres, look_at_backlog(connection.settings) if postgres.ok else None


def look_at_queue(settings: Settings) -> tuple[QueueStatus, list[WorkerStatus]]:
    """Look at Redis, and if it answers at the workers that are asked by way of it."""
    queue = look_at_redis(settings)
    return queue, look_at_workers() if queue.ok else []


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


def look_at_backlog(settings: Settings) -> BacklogStatus:
    """Count what waits, of all tenants: as the system role, for no other may."""
    limit = settings.tenant_backlog
    try:
        system = make_system_engine(settings)
    except ConfigurationError as error:
        return BacklogStatus(line_limit=limit, problem=f"cannot be counted: {error}")
    try:
        with system.connect() as open_:
            messages, line, wait = open_.execute(_BACKLOG).one()
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == _FUNCTION_MISSING:
            problem = "cannot be counted: the database is of an older version; run konstruct-migrate"
        else:
            problem = f"cannot be counted: PostgreSQL {_why(error)} as the system role"
        return BacklogStatus(line_limit=limit, problem=problem)
    except SQLAlchemyError as error:
        problem = f"cannot be counted: PostgreSQL {_why(error)} as the system role"
        return BacklogStatus(line_limit=limit, problem=problem)
    finally:
        system.dispose()
    return BacklogStatus(messages=messages, longest_line=line, line_limit=limit, longest_wait_s=wait)


def look_at_redis(settings: Settings) -> QueueStatus:
    """Count the deliveries that wait.

    Raises:
        ConfigurationError: ``KONSTRUCT_REDIS_URL`` is no URL of a Redis.
    """
    try:
        client = redis.Redis.from_url(
            settings.redis_url.get_secret_value(),
            socket_timeout=HTTP_TIMEOUT_S,
            socket_connect_timeout=HTTP_TIMEOUT_S,
            retry=None,  # what does not answer in that time is what is to be told
            **redis_tls(settings),
        )
    except ValueError:  # it may repeat a password that it takes for a port
        raise ConfigurationError(f"{PREFIX}REDIS_URL: write it as redis://:password@host:6379/0") from None
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
