"""handle_message beside a no-op task on the same worker, with an llm-pool that answers at once.

The tasks are queued while the worker does not consume; the clock runs from the moment it does until the
broker holds none. The two sides take turns, and each side's median is compared.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg

from bench.result import Result
from konstruct_cli.stack.postgres import Postgres
from konstruct_cli.stack.process import ManagedProcess
from konstruct_cli.stack.redis import Redis
from orchestrator.main import QUEUE, TASK_NAME, app
from orchestrator.sending import submit
from shared.contract import CompletionResponse
from shared.migrate import Login, ensure_logins, migrate
from shared.models import KonstructMessage

TASKS = 1500
ROUNDS = 5
DEADLINE_S = 120.0

_ENVELOPE = CompletionResponse.model_validate(
    {
        "content": "A reply of a usual length, as a model might write it to somebody who asked. " * 4,
        "model": "stub-1",
        "requested_group": "quality",
        "served_group": "quality",
        "degraded": False,
        "fallback_reason": None,
        "attempts": [{"deployment": "stub/stub-1", "group": "quality", "outcome": "ok", "ms": 1.0}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 80},
        "cost_usd": 0.001,
        "latency_ms": 1.0,
    }
)

_AGENT = """
apiVersion: v1
kind: Namespace
metadata: {name: acme, labels: {konstruct.dev/tenant-id: acme}}
---
apiVersion: konstruct.dev/v1alpha1
kind: Agent
metadata: {name: ada, namespace: acme}
spec: {displayName: Ada, systemPrompt: Answer briefly.}
"""


def wait(ready: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.005)


def run(tasks: int = TASKS, rounds: int = ROUNDS) -> Result:
    """Measure both sides and return tasks per second."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="konstruct-bench-")))
        folder.chmod(0o711)
        environment = _start(stack, folder)
        os.environ.update({k: v for k, v in environment.items() if k.startswith("KONSTRUCT_")})
        worker = ManagedProcess(
            "worker", [sys.executable, "-m", "bench.worker"], log=folder / "worker.log", env=environment
        )
        stack.enter_context(worker)
        worker.wait_ready(lambda: "ready." in worker.log.read_text(), 60)
        _round("bench.noop", 200)
        _round(TASK_NAME, 200)
        noop, handled = [], []
        for _ in range(rounds):
            noop.append(_round("bench.noop", tasks))
            handled.append(_round(TASK_NAME, tasks))
        with psycopg.connect(environment["BENCH_SUPERUSER_URL"]) as connection:
            row = connection.execute("select count(*) from messages where status = 'answered'").fetchone()
        assert row == (200 + tasks * rounds,), row
        app.close()
    ours, theirs = statistics.median(handled), statistics.median(noop)
    return Result(
        name="handle_message",
        unit="tasks/s, one worker, 32 threads, median",
        sides={"handle_message": ours, "no-op task": theirs},
        ratio=ours / theirs,
        target="at least 0.5 of the no-op's rate",
        met=ours / theirs >= 0.5,
        detail={"handle_message": handled, "no-op task": noop, "tasks": tasks},
    )


def _start(stack: ExitStack, folder: Path) -> dict[str, str]:
    """Start PostgreSQL, Redis and the stub; return the worker's environment."""
    postgres = stack.enter_context(Postgres(folder / "postgres", durable=True))
    redis = stack.enter_context(Redis(folder / "redis"))
    owner = postgres.create_database("konstruct")
    migrate(owner)
    service, system = Login("app", "p1"), Login("sys", "p2")
    ensure_logins(owner, service=service, system=system)
    (folder / "body.json").write_text(_ENVELOPE.model_dump_json())
    (folder / "agents").mkdir()
    (folder / "agents" / "ada.yaml").write_text(_AGENT)
    port_file = folder / "port"
    stub = ManagedProcess(
        "stub",
        [sys.executable, "-m", "bench.stub_upstream", str(port_file), str(folder / "body.json")],
        log=folder / "stub.log",
    )
    stack.enter_context(stub)
    wait(port_file.exists, "the stub's start")
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "KONSTRUCT_DATABASE_URL": postgres.url("konstruct", *service),
        "KONSTRUCT_SYSTEM_DATABASE_URL": postgres.url("konstruct", *system),
        "KONSTRUCT_REDIS_URL": redis.url(),
        "KONSTRUCT_LLM_POOL_URL": f"http://127.0.0.1:{port_file.read_text()}",
        "KONSTRUCT_AGENTS_DIR": str(folder / "agents"),
        "BENCH_SUPERUSER_URL": owner,
    }


def _round(task: str, count: int) -> float:
    """Let the worker do `count` tasks and return how many it did a second."""
    broker: Any = app.backend.client
    _consume(on=False)
    for _ in range(count):
        message = KonstructMessage(
            tenant_id="acme", agent="ada", thread_id=os.urandom(8).hex(), sender="bench", text="hello"
        )
        if task == TASK_NAME:
            submit(message)  # records it too: that is the sender's work, done before the clock runs
        else:
            app.send_task(task, args=(message.model_dump(mode="json"),))
    assert broker.llen(QUEUE) == count
    started = time.monotonic()
    _consume(on=True)
    wait(lambda: broker.llen(QUEUE) == 0 and broker.hlen("unacked") == 0, f"{count} of {task}")
    return count / (time.monotonic() - started)


def _consume(*, on: bool) -> None:
    """Switch the worker's consumption, and wait until it says that it did."""
    call = app.control.add_consumer if on else app.control.cancel_consumer
    call(QUEUE, reply=not on, timeout=2)


if __name__ == "__main__":
    print(run().table())
