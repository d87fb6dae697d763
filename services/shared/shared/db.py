"""Engines and sessions.

The service engine acts for one tenant at a time (:mod:`shared.rls`). The system engine logs in as a role
that may only execute the functions that must see across tenants. Both are synchronous with a QueuePool:
a worker's tasks each have a thread and an event loop of their own, and an asynchronous pool belongs to
one loop (ADR 0005).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING

import sqlalchemy
from pydantic import SecretStr
from sqlalchemy import Engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DataError, IntegrityError, SQLAlchemyError

from shared.config import PREFIX, ConfigurationError, Settings, load_settings
from shared.rls import configure_rls_hook
from shared.stuck import keep_lively

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

CONNECT_TIMEOUT_S = 5
"""Seconds until an attempt to connect is given up."""

STATEMENT_TIMEOUT_MS = 10_000
"""Milliseconds after which PostgreSQL ends a statement."""

LOCK_TIMEOUT_MS = 5_000
"""Milliseconds that a statement waits for a lock."""

IDLE_IN_TRANSACTION_MS = 5_000
"""Milliseconds after which PostgreSQL ends a transaction whose client says nothing more."""

_SESSION = " ".join(
    f"-c {name}={value}"
    for name, value in {
        "statement_timeout": STATEMENT_TIMEOUT_MS,
        "lock_timeout": LOCK_TIMEOUT_MS,
        # What a client that is cut off had locked would stay locked until the server's kernel gave it up,
        # which takes hours.
        "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION_MS,
        "tcp_keepalives_idle": 5,
        "tcp_keepalives_interval": 2,
        "tcp_keepalives_count": 3,
    }.items()
)
"""Settings of every session, for the server's side."""


@lru_cache(maxsize=1)
def engine() -> Engine:
    """Return this process's service engine, made from the environment on first use."""
    return make_engine(load_settings())


def make_engine(settings: Settings) -> Engine:
    """Make a service engine with the row level security hook.

    Raises:
        ConfigurationError: ``KONSTRUCT_DATABASE_URL`` is missing or no URL.
    """
    made = _create(settings.database_url, "database_url", pool_size=settings.worker_concurrency)
    configure_rls_hook(made)
    return made


def make_system_engine(settings: Settings) -> Engine:
    """Make a system engine: no tenant, no tables, only the cross-tenant functions.

    Raises:
        ConfigurationError: ``KONSTRUCT_SYSTEM_DATABASE_URL`` is missing or no URL.
    """
    return _create(settings.system_database_url, "system_database_url", pool_size=5)


@contextmanager
def get_session(on: Engine | None = None) -> Iterator[Session]:
    """Open a session on `on` (default: the process's engine) in one transaction.

    The transaction is committed at the block's end and rolled back on error. It acts for the tenant of
    the enclosing :func:`shared.rls.tenant_scope`.

    Raises:
        TenantNotSetError: at its first statement, if no tenant is set.
    """
    from sqlalchemy.orm import Session  # noqa: PLC0415 - a third of SQLAlchemy, and not all need sessions

    with Session(engine() if on is None else on, expire_on_commit=False) as session, session.begin():
        yield session


def is_worth_a_retry(error: SQLAlchemyError) -> bool:
    """Whether the same statement may succeed later: not when PostgreSQL refuses the values themselves."""
    return not isinstance(error, DataError | IntegrityError)


def driver_url(url: str) -> sqlalchemy.URL:
    """Parse a ``postgresql://`` URL for the psycopg driver.

    Raises:
        ValueError: it is no PostgreSQL URL; the message does not repeat it.
    """
    if url.count("@") > 1:
        # Some of the password would be taken for host or port, and repeated by whoever cannot find that.
        raise ValueError("only one '@' can be in it; within a password write %40 (and %25 for %, %2F for /)")
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # the latter repeats what it takes for a port
        parsed = None
    if parsed is None or parsed.get_backend_name() not in ("postgresql", "postgres"):
        raise ValueError("write it as postgresql://user:password@host:5432/database")
    return parsed.set(drivername="postgresql+psycopg")


def refuse_unsafe_role(on: Engine) -> None:
    """Refuse to work as a role that row level security does not hold back.

    Raises:
        ConfigurationError: the role is a superuser, has BYPASSRLS, or owns the tables.
    """
    # Below the hook: this asks about the role and reads no table of a tenant.
    with closing(on.raw_connection()) as connection, closing(connection.cursor()) as cursor:
        cursor.execute(
            "select current_user, r.rolsuper or r.rolbypassrls,"
            " exists (select from pg_class c where c.relname = 'messages' and c.relowner = r.oid)"
            " from pg_roles r where r.rolname = current_user"
        )
        name, bypasses, owns = cursor.fetchone() or ("", True, True)
    if bypasses or owns:
        raise ConfigurationError(
            f"{PREFIX}DATABASE_URL logs in as {name}, which row level security does not hold back; "
            "use a role made by konstruct-migrate, not a superuser, not the owner of the tables"
        )


def _create(url: SecretStr | None, field: str, *, pool_size: int) -> Engine:
    variable = f"{PREFIX}{field.upper()}"
    if url is None:
        raise ConfigurationError(
            f"{variable} is not set; write postgresql://user:password@host:5432/database"
        )
    try:
        parsed = driver_url(url.get_secret_value())
    except ValueError as error:
        raise ConfigurationError(f"{variable}: {error}") from None
    made = sqlalchemy.create_engine(
        parsed,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=10,
        pool_use_lifo=True,
        hide_parameters=True,
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_S,
            "application_name": "konstruct",
            "options": _SESSION,
            # A dead peer is noticed in seconds, not in the kernel's two hours.
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": 10_000,
        },
    )
    keep_lively(made)
    return made
