"""One tenant with thousands of messages waiting, another that sends one a second; and what turns cost.

The small tenant's messages are timed, from their receipt to their reply, while nothing else is done and while
the big tenant's wait, on the same worker. Then one tenant alone has its messages answered, by an llm-pool
that answers at once: a few at a time in Redis, and all of them there at once, in turn.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psutil
import psycopg

from bench.handle_message import start_parts, wait
from bench.result import Row, write
from konstruct_cli.stack.process import ManagedProcess
from orchestrator.main import app
from orchestrator.sending import submit
from shared.config import Settings
from shared.db import make_engine
from shared.models import KonstructMessage

WAITING = 10_000
"""Messages of the big tenant."""

SENT = 40
"""Messages of the small one, a second apart."""

ANSWER_S = 0.5
"""Seconds that a model takes, give or take a fifth."""

TARGET = 2.0
"""How many times longer the small tenant may wait."""

ALONE = 600
"""Messages of a round in which one tenant has the worker for itself."""

ROUNDS = 3
"""Rounds of each way."""

SENDERS = 4
"""Threads that submit."""

ALONE_ONLY = "--alone"
"""Argument by which it measures only that, and prints the figures as JSON."""

_AGENT = """
apiVersion: v1
kind: Namespace
metadata: {name: globex, labels: {konstruct.dev/tenant-id: globex}}
---
apiVersion: konstruct.dev/v1alpha1
kind: Agent
metadata: {name: ada, namespace: globex}
spec: {displayName: Ada, systemPrompt: Answer briefly.}
"""


class Stage:
    """A worker, what it needs, and a sender."""

    def __init__(self, stack: ExitStack, answer_s: float) -> None:
        self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="konstruct-bench-")))
        self._folder.chmod(0o711)
        self._environment = start_parts(stack, self._folder, answer_s)
        (self._folder / "agents" / "globex.yaml").write_text(_AGENT)
        os.environ.update({k: v for k, v in self._environment.items() if k.startswith("KONSTRUCT_")})
        self._engine = make_engine(
            Settings.model_validate({"database_url": self._environment["KONSTRUCT_DATABASE_URL"]})
        )
        stack.callback(self._engine.dispose)
        url = self._environment["BENCH_SUPERUSER_URL"]
        self._database = stack.enter_context(psycopg.connect(url, autocommit=True))
        app.conf.update(broker_url=self._environment["KONSTRUCT_REDIS_URL"])
        stack.callback(app.close)

    def worker(self, **more: str) -> ManagedProcess:
        """Make a worker; it runs as a context."""
        return ManagedProcess(
            "worker",
            [sys.executable, "-m", "bench.worker"],
            log=self._folder / f"worker-{time.monotonic_ns()}.log",
            env={**self._environment, **more},
        )

    def send(self, tenant: str, count: int, settings: Settings | None = None) -> None:
        """Submit messages of a tenant, each of a thread of its own."""

        def one(_: int) -> None:
            message = KonstructMessage(
                tenant_id=tenant, agent="ada", thread_id=os.urandom(8).hex(), sender="bench", text="hello"
            )
            submit(message, on=self._engine, settings=settings)

        with ThreadPoolExecutor(SENDERS) as senders:
            list(senders.map(one, range(count)))

    def unfinished(self, tenant: str) -> int:
        """Count a tenant's unfinished messages."""
        query = "select count(*) from messages where tenant_id = %s and status = 'received'"
        found = self._database.execute(query, (tenant,)).fetchone()
        assert found is not None
        return int(found[0])

    def each_second(self) -> dict[str, float]:
        """Send the small tenant's messages one a second, and time each."""
        self._database.execute("delete from messages where tenant_id = 'globex'")
        started = time.monotonic()
        for number in range(SENT):
            time.sleep(max(0.0, started + number - time.monotonic()))
            self.send("globex", 1)
        wait(lambda: not self.unfinished("globex"), "the small tenant's replies")
        query = "select extract(epoch from finished_at - received_at)::float8 from messages"
        rows = self._database.execute(f"{query} where tenant_id = 'globex'").fetchall()
        seconds = sorted(row[0] for row in rows)
        return {
            "p50 s": statistics.median(seconds),
            "p95 s": statistics.quantiles(seconds, n=20)[-1],
            "worst s": seconds[-1],
        }


def fairness() -> tuple[list[Row], list[str]]:
    """Time the small tenant's messages, with and without the big tenant."""
    with ExitStack() as stack:
        stage = Stage(stack, ANSWER_S)
        worker = stack.enter_context(stage.worker())
        wait(lambda: "ready." in worker.log.read_text(), "a worker")
        stage.send("globex", 8)
        wait(lambda: not stage.unfinished("globex"), "the first replies")
        idle, idle_mb = stage.each_second(), _megabytes(worker)
        stage.send("acme", WAITING)
        waiting = stage.unfinished("acme")
        loaded, loaded_mb = stage.each_second(), _megabytes(worker)
        left = stage.unfinished("acme")
        assert left > 0, "the big tenant's messages were finished before the small one's"
    ratio = loaded["p95 s"] / idle["p95 s"]
    target = "met" if ratio <= TARGET else "missed"
    rows = [Row("nothing else", idle), Row(f"beside {WAITING} waiting", loaded)]
    return rows, [
        f"p95 {ratio:.2f} times as long; target {TARGET:g}: {target}",
        f"of the big tenant {waiting} waited when the small one began, {left} when it ended",
        f"worker's memory: {idle_mb:.0f} MB before, {loaded_mb:.0f} MB beside them",
    ]


def alone() -> dict[str, list[float]]:
    """Measure messages a second of one tenant that has the worker for itself, each way in turn."""
    rates: dict[str, list[float]] = {"8": [], str(ALONE): []}
    with ExitStack() as stack:
        stage = Stage(stack, 0.0)
        for _ in range(ROUNDS):
            for queued, found in rates.items():
                stage.send("acme", ALONE, Settings(tenant_queued=int(queued)))
                with stage.worker(KONSTRUCT_TENANT_QUEUED=queued):
                    wait(lambda: stage.unfinished("acme") <= ALONE * 5 // 6, "a worker at work")
                    began, before = time.monotonic(), stage.unfinished("acme")
                    wait(lambda: not stage.unfinished("acme"), "all replies")
                    found.append(before / (time.monotonic() - began))
    return rates


def _megabytes(process: ManagedProcess) -> float:
    return float(psutil.Process(process.pid).memory_info().rss) / 1e6


def main() -> None:
    """Measure, print and write the table."""
    rows, notes = fairness()
    print("\n".join(notes), flush=True)
    # In a process of its own: a sender keeps to the broker that it began with.
    found = subprocess.run(
        [sys.executable, "-m", "bench.fairness", ALONE_ONLY], check=True, stdout=subprocess.PIPE
    )
    rates: dict[str, list[float]] = json.loads(found.stdout)
    turns, at_once = (statistics.median(found) for found in rates.values())
    notes.append(
        f"one tenant alone, a model that answers at once: {turns:.0f} messages/s with 8 of it in Redis, "
        f"{at_once:.0f} with all: {turns / at_once:.2f}"
    )
    title = f"a tenant that sends one message a second, answers of {ANSWER_S:g} s, one worker, 32 threads"
    write("fairness", title, rows, notes, rates=rates)


if __name__ == "__main__":
    if ALONE_ONLY in sys.argv:
        print(json.dumps(alone()))
    else:
        main()
