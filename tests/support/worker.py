"""Real workers: processes of ``konstruct-worker`` on a real broker and a real database."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis as redis_client

from konstruct_cli.stack.process import ManagedProcess
from konstruct_cli.stack.redis import Redis
from orchestrator.asking import worker_status
from orchestrator.main import QUEUE, TASK_NAME, app
from orchestrator.messages import find_reply
from orchestrator.sending import submit
from orchestrator.signing import Signing
from shared.config import load_settings
from shared.db import make_engine
from shared.models import KonstructMessage
from shared.reply import Reply
from tests.support.database import Database
from tests.support.pool import StubPool
from tests.support.waiting import eventually

NAMESPACE = """
apiVersion: v1
kind: Namespace
metadata: {{name: {tenant}, labels: {{konstruct.dev/tenant-id: {tenant}}}}}
---
"""

AGENT = """
apiVersion: konstruct.dev/v1alpha1
kind: Agent
metadata: {{name: {name}, namespace: {tenant}}}
spec:
  displayName: {display}
  systemPrompt: {prompt}
  {more}
"""


def write_agent(
    folder: Path, tenant: str, name: str, *, prompt: str = "Answer briefly.", more: str = ""
) -> Path:
    """Write a tenant's namespace and one agent."""
    path = folder / f"{tenant}-{name}.yaml"
    text = NAMESPACE.format(tenant=tenant) + AGENT.format(
        name=name, tenant=tenant, display=name.title(), prompt=prompt, more=more
    )
    path.write_text(text)
    return path


PAYLOAD_KEY = "canary-payload-key-of-all-the-tests-1f6b"
"""What tests sign deliveries with; must never be seen anywhere."""

_numbers = itertools.count()


@dataclass
class Cell:
    """One test's broker, database, pool and agents, and the workers on them."""

    database: Database
    redis_url: str
    pool: StubPool
    agents: Path
    folder: Path
    results: bool = True
    """Whether this process waits for results in Redis; Celery takes the end of that Redis badly."""
    workers: list[ManagedProcess] = field(default_factory=list)
    on_end: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        self.on_end.enter_context(sending_to(self.redis_url, results=self.results))
        patch = pytest.MonkeyPatch()
        patch.setenv("KONSTRUCT_PAYLOAD_KEY", PAYLOAD_KEY)  # this process sends, and signs
        self.on_end.callback(patch.undo)
        self.engine = make_engine(self.database.settings(worker_concurrency=4))
        self.on_end.callback(self.engine.dispose)
        self.broker = redis_client.Redis.from_url(self.redis_url)
        self.on_end.callback(self.broker.close)

    def environment(self, **more: str) -> dict[str, str]:
        """Build a worker's environment: nothing of the caller's but PATH."""
        return {
            "PATH": os.environ["PATH"],
            "KONSTRUCT_DATABASE_URL": self.database.service_url,
            "KONSTRUCT_SYSTEM_DATABASE_URL": self.database.system_url,
            "KONSTRUCT_REDIS_URL": self.redis_url,
            "KONSTRUCT_PAYLOAD_KEY": PAYLOAD_KEY,
            "KONSTRUCT_LLM_POOL_URL": self.pool.url,
            "KONSTRUCT_AGENTS_DIR": str(self.agents),
            "KONSTRUCT_WORKER_CONCURRENCY": "8",
            "KONSTRUCT_LEASE_S": "2",
            "KONSTRUCT_DRAIN_S": "1",
            **more,
        }

    def start_worker(self, **more: str) -> ManagedProcess:
        """Start a worker and wait until it takes messages."""
        worker = self.launch_worker(**more)
        worker.wait_ready(lambda: "ready." in worker.log.read_text(), 60)
        return worker

    def launch_worker(self, **more: str) -> ManagedProcess:
        """Start a worker and wait for nothing."""
        number = next(_numbers)
        worker = ManagedProcess(
            f"worker {number}",
            [sys.executable, "-m", "orchestrator"],
            log=self.folder / f"worker-{number}.log",
            env=self.environment(**more),
        )
        worker.start()
        self.on_end.callback(worker.stop)
        self.workers.append(worker)
        return worker

    def message(self, text: str, **changes: Any) -> KonstructMessage:
        """Make a message of tenant acme to the agent ada."""
        values = {"tenant_id": "acme", "agent": "ada", "thread_id": f"t{next(_numbers)}", "sender": "sam"}
        return KonstructMessage.model_validate({**values, "text": text, **changes})

    def submit(self, *messages: KonstructMessage) -> None:
        """Submit messages in order."""
        for message in messages:
            submit(message, on=self.engine)

    def deliver(self, payload: Any, **headers: Any) -> str:
        """Queue a payload directly, as a gateway would that knows only the task's name and the key."""
        signed = Signing.of(load_settings()).headers(payload)
        return str(app.send_task(TASK_NAME, args=(payload,), headers={**signed, **headers}).id)

    def reply(self, message: KonstructMessage, within_s: float = 30.0) -> Reply:
        """Wait for the reply to a message."""
        found = eventually(
            lambda: find_reply(message.tenant_id, message.message_id, on=self.engine),
            within_s=within_s,
            what=f"a reply to {message.message_id}",
        )
        assert found is not None
        return found

    def unacked(self) -> int:
        """Count the deliveries that workers hold."""
        return int(self.broker.hlen("unacked"))

    def queued(self) -> int:
        """Count the deliveries that wait."""
        return int(self.broker.llen(QUEUE))

    def settled(self) -> bool:
        """Whether the broker holds no delivery at all."""
        return self.unacked() == 0 and self.queued() == 0

    def revisions(self, agent: str = "ada", tenant: str = "acme") -> list[str]:
        """Ask every worker which revision of an agent it serves."""
        return [
            served.revision
            for status in worker_status(app)
            for served in status.agents
            if (served.tenant_id, served.agent) == (tenant, agent)
        ]

    def logs(self) -> str:
        """Everything that the workers wrote."""
        return "".join(worker.log.read_text() for worker in self.workers)


@contextmanager
def sending_to(url: str, *, results: bool = True) -> Iterator[None]:
    """Make this process a sender to another broker for a while, and to the one before it again."""
    before = (str(app.conf.broker_url), str(app.conf.result_backend))
    _send_to(url, url if results else "disabled://")
    try:
        yield
    finally:
        _send_to(*before)


def _send_to(broker: str, backend: str) -> None:
    # Celery keeps its connections otherwise.
    app.close()
    vars(app).pop("amqp", None)
    app._backend_cache = None  # type: ignore[attr-defined]
    vars(app._local).pop("backend", None)  # type: ignore[attr-defined]
    app.conf.update(broker_url=broker, result_backend=backend)


@contextmanager
def open_cell(
    database: Database, redis_url: str, pool: StubPool, folder: Path, *, results: bool = True
) -> Iterator[Cell]:
    """Set up a cell with one agent on an emptied broker; its workers end with the block."""
    agents = folder / "agents"
    agents.mkdir()
    write_agent(agents, "acme", "ada")
    made = Cell(database, redis_url, pool, agents, folder, results)
    with made.on_end:
        made.broker.flushdb()
        yield made


@pytest.fixture
def cell(database: Database, redis_server: Redis, stub_pool: StubPool, tmp_path: Path) -> Iterator[Cell]:
    """Set up a broker, a database, a pool and one agent; start workers with ``cell.start_worker()``."""
    with open_cell(database, redis_server.url(), stub_pool, tmp_path) as made:
        yield made
