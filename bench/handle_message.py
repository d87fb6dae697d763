"""handle_message beside a no-op task on the same worker, with an llm-pool that answers at once.

The tasks are queued while the worker is paused; the clock runs from the moment it goes on until the broker
holds none. The two sides take turns, and each side's median is compared.
"""

from __future__ import annotations

import os
import signal
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import psutil
import psycopg

from bench.result import Row, write
from konstruct_cli.stack.postgres import Postgres
from konstruct_cli.stack.process import ManagedProcess, claim_port
from konstruct_cli.stack.redis import Redis
from orchestrator.main import QUEUE, TASK_NAME, app
from orchestrator.sending import submit
from shared.migrate import Login, ensure_logins, migrate
from shared.models import KonstructMessage

NOOP = "bench.noop"
TASKS = 1000
ROUNDS = 5
WARM_UP = 200
TARGET = 0.5
DEADLINE_S = 120.0


@dataclass(frozen=True)
class Sample:
    """One round of one side."""

    per_second: float
    cpu_ms: float


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


def measure(tasks: int = TASKS, rounds: int = ROUNDS) -> dict[str, list[Sample]]:
    """Measure both sides in turn."""
    samples: dict[str, list[Sample]] = {NOOP: [], TASK_NAME: []}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="konstruct-bench-")))
        folder.chmod(0o711)
        # All of them wait in Redis, as the no-op's do.
        environment = start_parts(stack, folder) | {"KONSTRUCT_TENANT_QUEUED": str(tasks)}
        os.environ.update({k: v for k, v in environment.items() if k.startswith("KONSTRUCT_")})
        worker = ManagedProcess(
            "worker", [sys.executable, "-m", "bench.worker"], log=folder / "worker.log", env=environment
        )
        stack.enter_context(worker)
        worker.wait_ready(lambda: "ready." in worker.log.read_text(), 60)
        for task in samples:
            _round(task, WARM_UP, worker)
        for _ in range(rounds):
            for task, found in samples.items():
                found.append(_round(task, tasks, worker))
        with psycopg.connect(environment["BENCH_SUPERUSER_URL"]) as connection:
            row = connection.execute("select count(*) from messages where status = 'answered'").fetchone()
        assert row == (WARM_UP + tasks * rounds,), row
        app.close()
    return samples


def main() -> None:
    """Measure, print and write the table."""
    samples = measure()
    rows = [
        Row(
            name,
            {
                "tasks/s": statistics.median(sample.per_second for sample in samples[task]),
                "worker CPU ms": statistics.median(sample.cpu_ms for sample in samples[task]),
            },
        )
        for name, task in (("no-op task", NOOP), ("handle_message", TASK_NAME))
    ]
    noop, handled = (row.figures for row in rows)
    ratio = handled["tasks/s"] / noop["tasks/s"]
    by_cpu = noop["worker CPU ms"] / handled["worker CPU ms"]
    target = "met" if ratio >= TARGET else "missed"
    notes = [f"ratio {ratio:.2f} of the no-op's rate (by worker CPU {by_cpu:.2f}); target {TARGET}: {target}"]
    title = (
        f"handle_message beside a no-op task, one worker, 32 threads, median of {ROUNDS} rounds of {TASKS}"
    )
    write("handle_message", title, rows, notes, samples={k: list(map(asdict, v)) for k, v in samples.items()})


def start_parts(stack: ExitStack, folder: Path, answer_s: float = 0.0) -> dict[str, str]:
    """Start PostgreSQL, Redis and a stub that takes about `answer_s`; return the worker's environment."""
    postgres = stack.enter_context(Postgres(folder / "postgres", durable=True))
    redis = stack.enter_context(Redis(folder / "redis"))
    owner = postgres.create_database("konstruct")
    migrate(owner)
    service, system = Login("app", "p1"), Login("sys", "p2")
    ensure_logins(owner, service=service, system=system)
    (folder / "agents").mkdir()
    (folder / "agents" / "ada.yaml").write_text(_AGENT)
    port = claim_port("the upstream", None)
    upstream = ManagedProcess(
        "upstream",
        [sys.executable, "-m", "bench.upstream", str(port), str(answer_s)],
        log=folder / "upstream.log",
    )
    stack.enter_context(upstream)
    wait(lambda: _listens(port), "the upstream's start")
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "KONSTRUCT_DATABASE_URL": postgres.url("konstruct", *service),
        "KONSTRUCT_SYSTEM_DATABASE_URL": postgres.url("konstruct", *system),
        "KONSTRUCT_REDIS_URL": redis.url(),
        "KONSTRUCT_LLM_POOL_URL": f"http://127.0.0.1:{port}",
        "KONSTRUCT_AGENTS_DIR": str(folder / "agents"),
        "BENCH_SUPERUSER_URL": owner,
    }


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _round(task: str, count: int, worker: ManagedProcess) -> Sample:
    """Let the worker do `count` tasks."""
    broker: Any = cast(Any, app.backend).client
    os.kill(worker.pid, signal.SIGSTOP)
    for _ in range(count):
        message = KonstructMessage(
            tenant_id="acme", agent="ada", thread_id=os.urandom(8).hex(), sender="bench", text="hello"
        )
        if task == TASK_NAME:
            submit(message)  # records it too: that is the sender's work, done before the clock runs
        else:
            app.send_task(task, args=(message.model_dump(mode="json"),))
    # One may have gone to the request that the worker had open.
    assert count - 1 <= broker.llen(QUEUE) <= count
    before, started = _cpu_s(worker), time.monotonic()
    os.kill(worker.pid, signal.SIGCONT)
    wait(lambda: broker.llen(QUEUE) == 0 and broker.hlen("unacked") == 0, f"{count} of {task}")
    seconds = time.monotonic() - started
    return Sample(count / seconds, (_cpu_s(worker) - before) / count * 1000)


def _cpu_s(process: ManagedProcess) -> float:
    times = psutil.Process(process.pid).cpu_times()
    return times.user + times.system


if __name__ == "__main__":
    main()
