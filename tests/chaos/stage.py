"""The running system of the fault suite: every part a process of its own, every link a proxy.

PostgreSQL (durable) and Redis (append-only file), an API server with the operator, the llm-pool, two workers
that follow the cluster's Agents, three providers, and a sender. All limits of time are the shipped defaults.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from konstruct_cli.stack.postgres import Postgres
from konstruct_cli.stack.process import ManagedProcess, claim_port
from konstruct_cli.stack.redis import Redis
from konstruct_cli.stack.services import LlmPool, Worker
from shared.config import Settings
from tests.chaos.links import Links
from tests.chaos.words import AGENTS, answer
from tests.observability.stubs import Providers
from tests.operator.operator_stage import AdminApi, OperatorProcess, OperatorStage
from tests.operator.release import released
from tests.support.control_plane import ControlPlane
from tests.support.database import Database, fresh_database, make_template
from tests.support.providers import say
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
"""The repository."""

HOME = "konstruct"
"""Name and namespace of the release."""

WORKERS = ("konstruct-orchestrator-a", "konstruct-orchestrator-b")
"""The workers, by the names of the Pods that they play."""

CONCURRENCY = 16
"""Messages that a worker answers at once."""

OPERATOR = {"KONSTRUCT_WORKER_LEASE_S": str(Settings().worker_lease_s)}
"""The default again: tests of the operator alone have a shorter one."""

HEALTHY = {protocol: say(answer, delay_s=0.05) for protocol in ("anthropic", "openai", "ollama")}
"""What the providers do when all is well."""


@dataclass
class Stage:
    """What runs."""

    folder: Path
    """Files and logs."""
    links: Links
    """The ways between the parts."""
    providers: Providers
    """The model providers."""
    redis: Redis
    """The queue."""
    postgres: Postgres
    """The database server."""
    database: Database
    """The database; its own connections pass no proxy."""
    plane: ControlPlane
    """The API server."""
    cluster: OperatorStage
    """Agents, and the cluster they are in."""
    pool: LlmPool
    """The llm-pool."""
    worker_environment: Mapping[str, str]
    """Settings of every worker."""
    sender_environment: Mapping[str, str]
    """Settings of every sender."""
    operator: OperatorProcess
    """The operator."""
    workers: dict[str, Worker] = field(default_factory=dict)
    """The workers, by name."""
    sender: ManagedProcess | None = None
    """The sender, while one sends."""
    runs: tuple[str, ...] = ()
    """How the ids of messages begin that were sent since the sending began."""
    end: ExitStack = field(default_factory=ExitStack)
    """Ends what was started."""

    def __post_init__(self) -> None:
        self._senders = itertools.count()

    def start_worker(self, name: str, **more: str) -> Worker:
        """Start a worker, which may not be ready yet."""
        environment = {**self.worker_environment, "KONSTRUCT_POD_NAME": name, **more}
        worker = Worker(environment, log=self.folder / f"{name}.log", grace_s=15)
        worker.launch()
        self.end.callback(worker.stop)
        self.workers[name] = worker
        return worker

    def start_operator(self) -> None:
        """Start the operator, which may not be ready yet."""
        self.operator = self.cluster.start(ready=False, **OPERATOR)

    def start_sender(self) -> None:
        """Start a sender that adds to the run's journal."""
        self.sender = ManagedProcess(
            "sender",
            [sys.executable, "-m", "tests.chaos.sender", self._run(), self.journal],
            log=self.folder / "sender.log",
            env={**self.sender_environment, "PYTHONPATH": str(ROOT)},
            stop_signal=signal.SIGINT,
            grace_s=30,
        )
        self.sender.start()

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Have a sender send for the block, with a new journal."""
        self.journal.unlink(missing_ok=True)
        self.runs = ()
        self.start_sender()
        try:
            yield
        finally:
            if self.sender is not None:
                self.sender.stop()
                self.sender = None

    def revive(self) -> list[str]:
        """Start again what ended by itself, and name it."""
        ended = [name for name, one in self.workers.items() if one.process.exit_code() is not None]
        for name in ended:
            self.start_worker(name)
        if self.pool.process.exit_code() is not None:
            self.pool.launch()
            ended.append("llm-pool")
        if self.operator.process.exit_code() is not None:
            self.start_operator()
            ended.append("operator")
        return ended

    def forget_cooldowns(self) -> None:
        """Replace an llm-pool in which something cools down: each round has one that knows nothing."""
        with httpx.Client(base_url=self.pool.base_url, trust_env=False) as client:
            groups = client.get("/health").json()["groups"]
        if any(group["cooling"] for group in groups):
            self.pool.stop()
            self.pool.launch()
            self.pool.wait_ready()

    def forget_asked(self) -> None:
        """Forget what the providers were asked."""
        for stub in self.providers.stubs.values():
            for seen in (stub.requests, stub.headers, stub.acts, stub.paths):
                seen.clear()

    def _run(self) -> str:
        name = f"run{next(self._senders)}"
        self.runs += (f"{name}-",)
        return name

    @property
    def journal(self) -> Path:
        """What was accepted since the sending began, one message a line: tenant, id."""
        return self.folder / "accepted"

    def pids(self) -> dict[str, int]:
        """Return the processes of ours, and the servers."""
        found = {name: worker.process.pid for name, worker in self.workers.items()}
        found |= {"llm-pool": self.pool.process.pid, "operator": self.operator.process.pid}
        found |= {"redis": self.redis.process.pid}
        return found | ({"sender": self.sender.pid} if self.sender else {})


@contextmanager
def running_stage(folder: Path) -> Iterator[Stage]:
    """Start everything; `folder` holds its files and logs."""
    folder.chmod(0o711)
    with ExitStack() as end:
        links = end.enter_context(Links())
        providers = end.enter_context(Providers(HEALTHY))
        redis = end.enter_context(Redis(folder / "redis", appendonly=True))
        postgres = end.enter_context(Postgres(folder / "postgres", durable=True))
        database = end.enter_context(fresh_database(postgres, make_template(postgres)))
        plane = end.enter_context(ControlPlane(folder / "plane"))
        api = AdminApi(plane)
        end.callback(api.close)
        cluster = released(plane, api, folder, HOME, tuple(AGENTS))
        end.enter_context(cluster.end)
        pool = _pool(folder, links, providers)
        end.callback(pool.stop)
        pool.launch()
        account = plane.kubeconfig_for(HOME, f"{HOME}-worker")
        worker_environment = {
            **_servers(links, "worker", redis, postgres, database),
            "KONSTRUCT_LLM_POOL_URL": f"http://127.0.0.1:{links.add('worker-pool', pool.port or 0)}",
            "KONSTRUCT_KUBECONFIG": str(_through(links, "worker-api", plane, account)),
            "KONSTRUCT_RELEASE": HOME,
            "KONSTRUCT_POD_NAMESPACE": HOME,
            "KONSTRUCT_WORKER_CONCURRENCY": str(CONCURRENCY),
        }
        cluster.kubeconfig = _through(links, "operator-api", plane, cluster.kubeconfig)
        stage = Stage(
            folder=folder,
            links=links,
            providers=providers,
            redis=redis,
            postgres=postgres,
            database=database,
            plane=plane,
            cluster=cluster,
            pool=pool,
            worker_environment=worker_environment,
            sender_environment=_servers(links, "sender", redis, postgres, database),
            operator=cluster.start(ready=False, **OPERATOR),
        )
        end.enter_context(stage.end)
        for name in WORKERS:
            stage.start_worker(name)
        for server in (pool, *stage.workers.values()):
            server.wait_ready()
        eventually(stage.operator.healthy, within_s=60, what="the operator")
        yield stage


def _pool(folder: Path, links: Links, providers: Providers) -> LlmPool:
    roots = {
        protocol: f"http://127.0.0.1:{links.add('pool-provider', int(root.rpartition(':')[2]))}"
        for protocol, root in providers.roots().items()
    }
    environment = {
        "PATH": os.environ["PATH"],
        **providers.environment(roots),
    }
    # Always on one port: the workers' way to it is set up once.
    return LlmPool(environment, log=folder / "llm-pool.log", port=claim_port("llm-pool", None))


def _servers(links: Links, who: str, redis: Redis, postgres: Postgres, database: Database) -> dict[str, str]:
    """Return where `who` finds Redis and PostgreSQL: behind links of its own."""
    urls = {
        "KONSTRUCT_DATABASE_URL": database.service_url,
        "KONSTRUCT_SYSTEM_DATABASE_URL": database.system_url,
    }
    return {
        "PATH": os.environ["PATH"],
        **links.redirect(f"{who}-redis", redis.port or 0, {"KONSTRUCT_REDIS_URL": redis.url()}),
        **links.redirect(f"{who}-postgres", postgres.port or 0, urls),
    }


def _through(links: Links, name: str, plane: ControlPlane, kubeconfig: Path) -> Path:
    """Write a kubeconfig that leads through a link."""
    port = int(plane.url.rpartition(":")[2])
    path = kubeconfig.with_suffix(f".{name}.json")
    text = links.redirect(name, port, {"text": kubeconfig.read_text()})["text"]
    path.write_text(text)
    path.chmod(0o600)
    return path
