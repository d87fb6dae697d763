"""The whole local stack: PostgreSQL, Redis, the small model, the llm-pool and a worker.

Everything that can start side by side does; everything ends in the opposite order. Nothing is left when
the block ends, whatever ended it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import yaml

from konstruct_cli.stack.model import Model
from konstruct_cli.stack.model_server import KEY_VARIABLE, MODEL
from konstruct_cli.stack.pool_config import pool_config, wants_small_model
from konstruct_cli.stack.ports import Ports
from konstruct_cli.stack.postgres import Postgres
from konstruct_cli.stack.process import StackError, ending
from konstruct_cli.stack.redis import Redis
from konstruct_cli.stack.server import Server
from konstruct_cli.stack.services import LlmPool, Worker
from konstruct_cli.stack.state import Secrets, StackInfo, StateDir
from shared.config import Settings
from shared.migrate import Login, ensure_logins, migrate
from shared.secret_files import without

DATABASE = "konstruct"
"""Name of the database."""

SERVICE_USER = "konstruct_app"
"""Login of senders and the worker."""

SYSTEM_USER = "konstruct_sys"
"""Login of what sees across tenants."""

WORKER_DEFAULTS = {"KONSTRUCT_WORKER_CONCURRENCY": "8", "KONSTRUCT_DRAIN_S": "3"}
"""Settings of the worker that fit one person's machine, unless the environment says otherwise."""


SERVICE_DEFAULTS = {"KONSTRUCT_LOG_FORMAT": "console"}
"""Settings of the llm-pool and the worker: their logs are files here, and people read them."""


class Progress(Protocol):
    """Told how the start goes on."""

    def waiting(self, part: str) -> None:
        """`part` is waited for now."""

    def ready(self, part: str, detail: str, seconds: float) -> None:
        """`part` is ready, `seconds` after the stack began to start; `detail` says where or what it is."""


class Silent:
    """Tells nobody."""

    def waiting(self, part: str) -> None:
        """Do nothing."""

    def ready(self, part: str, detail: str, seconds: float) -> None:
        """Do nothing."""


@dataclass(slots=True)
class LocalStack:
    """A stack on one state folder. Use :meth:`run`, once."""

    state: StateDir
    """Its folder."""

    agents_dir: Path
    """Agent manifests that it serves."""

    settings: Settings
    """Settings of the caller's environment; addresses in them are replaced by the stack's own."""

    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    """Environment that the llm-pool and the worker begin with."""

    ports: Ports = field(default_factory=Ports)
    """Ports that are asked for."""

    durable: bool = True
    """Whether the data must survive a crash of the machine."""

    progress: Progress = field(default_factory=Silent)
    """Told of every part."""

    _servers: list[Server] = field(default_factory=list)
    _began: float = 0.0

    @contextmanager
    def run(self) -> Iterator[StackInfo]:
        """Start everything, yield how to reach it, and end everything.

        Raises:
            StackError: a part does not start, or the folder is in use; the message says which and why.
        """
        if not self.agents_dir.is_dir():
            raise StackError(f"{self.agents_dir} is not a folder; name a folder of Agent manifests")
        with self.state.hold() as lock, ExitStack() as running:
            self._began = time.monotonic()
            info = self._start(running, lock)
            running.callback(self.state.info_file.unlink, missing_ok=True)
            self.state.publish(info)
            yield info

    def check(self) -> None:
        """Look whether every part still runs.

        Raises:
            StackError: one ended; shows the end of its log.
        """
        for server in self._servers:
            code = server.process.exit_code()
            if code is not None:
                tail = server.process.tail()
                raise StackError(f"{server.NAME} {ending(code)}. The end of {server.log}:\n{tail}")

    def _start(self, running: ExitStack, lock: int) -> StackInfo:
        secrets = self.state.secrets()
        model = self._model(secrets, lock) if wants_small_model(self.settings, self.environ) else None
        if model is not None:
            self._launch(model, running)
        pool = self._pool(secrets, model, lock)
        self._launch(pool, running)  # first, for it takes longest
        redis, postgres = self._redis(secrets, lock), self._postgres(secrets, lock)
        self._launch(redis, running)
        self._launch(postgres, running)
        self._await(postgres)
        info = StackInfo(
            pid=os.getpid(),
            started_at=datetime.now(UTC),
            agents_dir=self.agents_dir.absolute(),
            database_url=postgres.url(DATABASE, SERVICE_USER, secrets.service_password),
            system_database_url=postgres.url(DATABASE, SYSTEM_USER, secrets.system_password),
            owner_database_url=postgres.create_database(DATABASE),
            redis_url=redis.url(),
            llm_pool_url=pool.base_url,
            llm_pool_token=secrets.llm_pool_token,
            payload_key=secrets.payload_key,
            worker_url="",
            small_model=None if model is None else MODEL,
            pids={},
        )
        self._migrate(info)
        self._await(redis)
        worker = self._worker(info, lock)
        self._launch(worker, running)
        for server in (model, pool, worker):
            if server is not None:
                self._await(server)
        pids = {server.NAME: server.process.pid for server in self._servers}
        return info.model_copy(
            update={"worker_url": worker.base_url, "pids": pids, "started_at": datetime.now(UTC)}
        )

    def _launch(self, server: Server, running: ExitStack) -> None:
        running.callback(server.stop)
        server.launch()
        self._servers.append(server)

    def _await(self, server: Server) -> None:
        self.progress.waiting(server.NAME)
        server.wait_ready()
        self._report(server.NAME, server.address)

    def _report(self, name: str, detail: str) -> None:
        self.progress.ready(name, detail, time.monotonic() - self._began)

    def _migrate(self, info: StackInfo) -> None:
        self.progress.waiting("migrations")
        migrate(info.owner_database_url)
        ensure_logins(
            info.owner_database_url,
            service=Login.of(info.database_url),
            system=Login.of(info.system_database_url),
        )
        self._report("migrations", "schema, roles, row level security")

    def _postgres(self, secrets: Secrets, lock: int) -> Postgres:
        data_dir = self.state.path / "postgres"
        # The lock is ours, so whoever wrote this file is gone; its process id may be another's by now.
        (data_dir / "postmaster.pid").unlink(missing_ok=True)
        return Postgres(
            data_dir,
            self.ports.postgres,
            password=secrets.superuser_password,
            durable=self.durable,
            log=self.state.logs / "postgres.log",
            keep_open=(lock,),
        )

    def _redis(self, secrets: Secrets, lock: int) -> Redis:
        return Redis(
            self.state.path / "redis",
            self.ports.redis,
            password=secrets.redis_password,
            appendonly=self.durable,
            log=self.state.logs / "redis.log",
            keep_open=(lock,),
        )

    def _model(self, secrets: Secrets, lock: int) -> Model:
        return Model(
            self.state.logs / "model.log", self.ports.model, key=secrets.model_key, keep_open=(lock,)
        )

    def _pool(self, secrets: Secrets, model: Model | None, lock: int) -> LlmPool:
        own = {"KONSTRUCT_LLM_POOL_TOKEN": secrets.llm_pool_token}
        if model is not None:
            config = self.state.path / "llm-pool.yaml"
            config.write_text(yaml.safe_dump(pool_config(self.settings, model.base_url), sort_keys=False))
            own |= {"KONSTRUCT_LLM_POOL_CONFIG": str(config), KEY_VARIABLE: model.key}
        environment = {**SERVICE_DEFAULTS, **without(self.environ, own), **own}
        log = self.state.logs / "llm-pool.log"
        return LlmPool(environment, log=log, port=self.ports.llm_pool, keep_open=(lock,))

    def _worker(self, info: StackInfo, lock: int) -> Worker:
        own = {**info.environment(), "KONSTRUCT_AGENTS_DIR": str(info.agents_dir)}
        environment = {**SERVICE_DEFAULTS, **WORKER_DEFAULTS, **without(self.environ, own), **own}
        log = self.state.logs / "worker.log"
        return Worker(environment, log=log, port=self.ports.worker, keep_open=(lock,))
