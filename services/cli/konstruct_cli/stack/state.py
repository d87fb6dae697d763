"""The state folder of a local stack: its lock, its secrets, and the file by which other commands find it.

The lock belongs to the stack's process and to every child that it starts. It is free only when the last
of them is gone, so a stack never starts on data that another still writes, and a state file left by a
stack that was killed is told from a live one.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from konstruct_cli.stack.process import StackError

DEFAULT_STATE_DIR = Path(".konstruct")
"""State folder of ``konstruct up``, in the working directory."""

LOCK_WAIT_S = 5.0
"""How long a start waits for the children of a stack that was just killed."""

_LOCK_POLL_S = 0.05
"""Pause between two attempts to take the lock."""


def _secret() -> str:
    return secrets.token_urlsafe(24)


class Secrets(BaseModel):
    """Passwords of one state folder; they stay as long as its data does."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    superuser_password: str = Field(default_factory=_secret)
    """PostgreSQL's superuser, who owns the schema."""

    service_password: str = Field(default_factory=_secret)
    """The service role's login."""

    system_password: str = Field(default_factory=_secret)
    """The system role's login."""

    redis_password: str = Field(default_factory=_secret)
    """Redis."""

    llm_pool_token: str = Field(default_factory=_secret)
    """Bearer token of the llm-pool."""

    payload_key: str = Field(default_factory=_secret)
    """What deliveries are signed with."""

    model_key: str = Field(default_factory=_secret)
    """Key of the small model."""


class StackInfo(BaseModel):
    """What other commands need to use a running stack. Holds secrets: the file is for its owner only."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    """Version of this form."""

    pid: int
    """Process that runs the stack."""

    started_at: AwareDatetime
    """When it was ready."""

    agents_dir: Path
    """Folder of Agent manifests that it serves."""

    database_url: str
    """PostgreSQL as the service role."""

    system_database_url: str
    """PostgreSQL as the system role."""

    owner_database_url: str
    """PostgreSQL as the superuser, who owns the schema."""

    redis_url: str
    """Redis."""

    llm_pool_url: str
    """The llm-pool."""

    llm_pool_token: str
    """Its bearer token."""

    payload_key: str
    """What deliveries are signed with."""

    worker_url: str
    """The worker's /metrics and /healthz."""

    small_model: str | None
    """The small model that answers as ``fast``, or None when another provider does."""

    pids: dict[str, int]
    """The stack's processes, by name."""

    def environment(self) -> dict[str, str]:
        """Return the settings with which a program uses this stack."""
        return {
            "KONSTRUCT_DATABASE_URL": self.database_url,
            "KONSTRUCT_SYSTEM_DATABASE_URL": self.system_database_url,
            "KONSTRUCT_REDIS_URL": self.redis_url,
            "KONSTRUCT_LLM_POOL_URL": self.llm_pool_url,
            "KONSTRUCT_LLM_POOL_TOKEN": self.llm_pool_token,
            "KONSTRUCT_PAYLOAD_KEY": self.payload_key,
        }


class StateDir:
    """One state folder."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        """The folder."""
        self.info_file = self.path / "stack.json"
        """The running stack's :class:`StackInfo`."""
        self.logs = self.path / "logs"
        """Logs of the newest stack."""

    @contextmanager
    def hold(self) -> Iterator[int]:
        """Make the folder and hold its lock; yields the descriptor that children must keep open.

        Raises:
            StackError: a stack runs on this folder, or it cannot be made.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.logs.mkdir(exist_ok=True)
            descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StackError(
                f"cannot write to {self.path} ({error.strerror}); choose another folder with --state-dir"
            ) from None
        try:
            self._lock(descriptor)
            for old in (self.info_file, *self.logs.iterdir()):
                old.unlink(missing_ok=True)
            yield descriptor
        finally:
            os.close(descriptor)

    def _lock(self, descriptor: int) -> None:
        deadline = time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if self.read() is not None or time.monotonic() > deadline:
                    raise StackError(self._in_use()) from None
                time.sleep(_LOCK_POLL_S)
            else:
                return

    def _in_use(self) -> str:
        info = self.read()
        who = f"process {info.pid}" if info else "a process that is starting or ending"
        return (
            f"a stack already runs on {self.path} ({who}): use it with `konstruct send` or "
            "`konstruct status`, end it with Ctrl-C where it runs, or start another with --state-dir"
        )

    def secrets(self) -> Secrets:
        """Return the folder's secrets, made on first use."""
        file = self.path / "secrets.json"
        if not file.exists():
            _write_private(file, Secrets().model_dump_json(indent=2))
        try:
            return Secrets.model_validate_json(file.read_bytes())
        except ValidationError:
            raise StackError(
                f"{file} is not what this version wrote; delete {self.path} to begin afresh"
            ) from None

    def publish(self, info: StackInfo) -> None:
        """Let other commands find the stack."""
        _write_private(self.info_file, info.model_dump_json(indent=2))

    def read(self) -> StackInfo | None:
        """Return the stack that runs on this folder, or None: no file, or its stack is gone.

        Raises:
            StackError: another version of Konstruct started it.
        """
        try:
            raw = self.info_file.read_bytes()
        except OSError:
            return None
        if not self.held():
            return None
        try:
            info = StackInfo.model_validate_json(raw)
        except ValidationError:
            raise StackError(
                f"the stack on {self.path} was started by another version of konstruct; start it again"
            ) from None
        # The lock is also held by the last children of a stack that was killed.
        return info if _alive(info.pid) else None

    def held(self) -> bool:
        """Whether a stack, or what is left of one, holds the folder."""
        try:
            with (self.path / "lock").open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _write_private(file: Path, text: str) -> None:
    """Write a file whole, readable by its owner only from the start."""
    unfinished = file.with_name(f".{file.name}.new")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text + "\n")
    unfinished.replace(file)
