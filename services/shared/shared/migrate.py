"""Bringing the database up to date, and the logins that use it.

Run as the role that owns the schema (``konstruct-migrate``); services never do. They may ask whether it
has been run (``konstruct-migrate --check``).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, cast

import psycopg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from psycopg import sql
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from shared.config import PREFIX, ConfigurationError, Settings, load_settings
from shared.db import CONNECT_TIMEOUT_S, driver_url
from shared.tables import SERVICE_ROLE, SYSTEM_ROLE
from shared.tls import TRUST_POSTGRESQL, certificate_fault

POLL_S = 1.0
"""Pause between two looks at a database that is not there or not up to date yet."""


class Login(NamedTuple):
    """A database user and its password."""

    user: str
    """Name of the role."""

    password: str
    """Its password."""

    @classmethod
    def of(cls, url: str) -> Login:
        """Read the login of a database URL.

        Raises:
            ValueError: the URL names no user or no password.
        """
        parsed = driver_url(url)
        if not parsed.username or not parsed.password:
            raise ValueError("the URL must name a user and a password")
        return cls(parsed.username, str(parsed.password))

    def __repr__(self) -> str:
        """Name the user only."""
        return f"Login({self.user!r})"


def migrations_dir() -> Path:
    """Return the folder of the migrations: inside an installed wheel, or at a checkout's root."""
    here = Path(__file__).resolve()
    packaged = here.parent / "_migrations"
    return packaged if packaged.is_dir() else here.parents[3] / "migrations"


def alembic_config(owner_url: str) -> Config:
    """Return Alembic's configuration for the database at `owner_url`."""
    config = Config()
    config.set_main_option("script_location", str(migrations_dir()))
    # By attribute: a URL in the ini text would need its percent signs doubled.
    config.attributes["url"] = driver_url(owner_url)
    return config


def migrate(owner_url: str, revision: str = "head") -> None:
    """Upgrade the database at `owner_url` to `revision`. Safe to run twice, and at once."""
    command.upgrade(alembic_config(owner_url), revision)


def is_up_to_date(service_url: str) -> bool:
    """Whether the database has every migration that this code knows, as a service may ask.

    A database with further ones counts too: a newer release has been here, and older workers go on.
    A database that is away, or that the service's login cannot enter or read yet, is not up to date.
    """
    scripts = ScriptDirectory(str(migrations_dir()))
    known = {script.revision for script in scripts.walk_revisions()}
    try:
        with _connections(service_url) as made, made.connect() as connection:
            found = connection.execute(text("select version_num from alembic_version")).scalar()
    except (OperationalError, ProgrammingError):
        return False
    return found == scripts.get_current_head() or (found is not None and found not in known)


def ensure_logins(owner_url: str, *, service: Login, system: Login) -> None:
    """Make the two logins, members of the group roles, with these passwords.

    An existing login keeps its other memberships and gets the password. Passwords reach the server only
    as SCRAM verifiers, so that its log cannot hold them.

    Raises:
        ValueError: a login is the owner itself, or both are the same.
    """
    owner = driver_url(owner_url).username
    if service.user == system.user or owner in (service.user, system.user):
        raise ValueError(
            "the service, the system and the migration URL must name three different users: "
            "one user for all would not be held back by row level security"
        )
    with _connections(owner_url) as made, made.begin() as transaction:
        connection = cast("psycopg.Connection[tuple[object, ...]]", transaction.connection.driver_connection)
        # Roles belong to the whole server: two installations must not make one at the same time.
        connection.execute("select pg_advisory_xact_lock(hashtextextended('konstruct.roles', 0))")
        for login, group in ((service, SERVICE_ROLE), (system, SYSTEM_ROLE)):
            _ensure_login(connection, login, group)
        # Read by `--check`. The table is Alembic's own, so no migration speaks of it.
        connection.execute(
            sql.SQL("grant select on alembic_version to {}").format(sql.Identifier(SERVICE_ROLE))
        )


def _ensure_login(connection: psycopg.Connection[tuple[object, ...]], login: Login, group: str) -> None:
    known = connection.execute("select 1 from pg_roles where rolname = %s", (login.user,)).fetchone()
    verifier = connection.pgconn.encrypt_password(
        login.password.encode(), login.user.encode(), b"scram-sha-256"
    ).decode()
    statement = "alter role {} login password {}" if known else "create role {} login password {}"
    connection.execute(sql.SQL(statement).format(sql.Identifier(login.user), sql.Literal(verifier)))
    connection.execute(sql.SQL("grant {} to {}").format(sql.Identifier(group), sql.Identifier(login.user)))


def run() -> None:
    """Entry point of ``konstruct-migrate``: exit 0 when done, 2 on a wrong configuration, 1 on failure."""
    options = _options()
    try:
        settings = load_settings()
        if options.check:
            _check(settings, options.wait)
        else:
            _migrate_and_make_logins(settings, options.wait)
    except (ConfigurationError, ValueError) as error:
        sys.exit(_say(f"konstruct-migrate: {error}", 2))
    except Exception as error:  # noqa: BLE001 - the edge of the program: one line, no traceback
        if (fault := certificate_fault(error)) is not None:
            sys.exit(_say(f"konstruct-migrate: PostgreSQL: {fault}. {TRUST_POSTGRESQL}", 2))
        sys.exit(_say(f"konstruct-migrate: {type(error).__name__}: {error}", 1))
    _say("konstruct-migrate: the database is up to date", 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="konstruct-migrate",
        description="Bring the database up to date, and make the logins of the services.",
    )
    parser.add_argument(
        "--wait",
        type=float,
        default=0,
        metavar="SECONDS",
        help="how long to wait for the database; default 0",
    )
    parser.add_argument(
        "--check", action="store_true", help="change nothing: succeed once another run has done its work"
    )
    return parser.parse_args()


def _check(settings: Settings, wait_s: float) -> None:
    if settings.database_url is None:
        raise ConfigurationError(f"not set: {PREFIX}DATABASE_URL")
    deadline = time.monotonic() + wait_s
    while not is_up_to_date(settings.database_url.get_secret_value()):
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"the database is not up to date after {wait_s:g} s; konstruct-migrate makes it so"
            )
        time.sleep(POLL_S)


def _migrate_and_make_logins(settings: Settings, wait_s: float) -> None:
    urls = {
        name: getattr(settings, name)
        for name in ("migration_database_url", "database_url", "system_database_url")
    }
    missing = [f"{PREFIX}{name.upper()}" for name, url in urls.items() if url is None]
    if missing:
        raise ConfigurationError(f"not set: {', '.join(missing)}")
    owner, service, system = (url.get_secret_value() for url in urls.values())
    _wait_for_database(owner, wait_s)
    migrate(owner)
    ensure_logins(owner, service=Login.of(service), system=Login.of(system))


def _say(line: str, code: int) -> int:
    sys.stderr.write(line + "\n")
    return code


def _wait_for_database(owner_url: str, wait_s: float) -> None:
    """Connect once, so that a database that is not there is one clear error; for `wait_s` seconds, again."""
    deadline = time.monotonic() + wait_s
    with _connections(owner_url) as made:
        while True:
            try:
                made.connect().close()
            except OperationalError:
                if time.monotonic() > deadline:
                    raise
            else:
                return
            time.sleep(POLL_S)


@contextmanager
def _connections(url: str) -> Iterator[Engine]:
    """Make an engine for a few connections; it hands the parts of `url` on, never a text to be read again."""
    made = create_engine(driver_url(url), connect_args={"connect_timeout": CONNECT_TIMEOUT_S})
    try:
        yield made
    finally:
        made.dispose()
