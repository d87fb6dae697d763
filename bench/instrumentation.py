"""What watching costs: the throughput of the llm-pool and of the worker with metrics and traces, and without.

The sides take turns on one machine, each in a process of its own. A side is an entry of `POOL_SIDES` or
`WORKER_SIDES`: how its process is started, and with what settings.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg
import redis

from bench.counting import pool_us, worker_us
from bench.handle_message import start_parts, wait
from bench.llm_pool import MESSAGES
from bench.llm_pool_servers import free_port, serving, wait_for
from bench.result import Row, write
from konstruct_cli.stack.process import ManagedProcess
from orchestrator.main import QUEUE, TASK_NAME, app
from shared.models import KonstructMessage

HERE = Path(__file__).resolve().parent
ROUNDS = 7
SECONDS = 3.0
CONCURRENCY = 32
TASKS = 500
TARGET = 0.95


@dataclass(frozen=True)
class Side:
    """One side of a comparison of throughput."""

    command: list[str]
    """How its process is started."""

    environment: dict[str, str] = field(default_factory=dict)
    """Settings of its own; ``{upstream}`` stands for the upstream's port."""

    def settings(self, upstream_port: int) -> dict[str, str]:
        """Fill the port in."""
        return {name: value.format(upstream=upstream_port) for name, value in self.environment.items()}


OFF, ON, TRACED = "metrics off", "metrics on", "metrics on, 1 % of traces"

_TRACES = {
    "KONSTRUCT_TRACING": "true",
    "KONSTRUCT_TRACING_SAMPLE_RATIO": "0.01",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:{upstream}",  # takes anything
}

POOL_SIDES = {
    OFF: Side([sys.executable, "-m", "bench.unmetered", "pool"]),
    ON: Side([sys.executable, "-m", "llm_pool.main"]),
    TRACED: Side([sys.executable, "-m", "llm_pool.main"], _TRACES),
}
"""The llm-pool; the first side is what the others are compared with."""

WORKER_SIDES = {
    OFF: Side([sys.executable, "-m", "bench.unmetered", "worker"]),
    ON: Side([sys.executable, "-m", "orchestrator"]),
    TRACED: Side([sys.executable, "-m", "orchestrator"], _TRACES),
}
"""The worker; the first side is what the others are compared with."""

Samples = dict[str, list[tuple[float, float]]]
"""By side: rate a second and milliseconds of processor time for each, round by round."""


def pools(stack: ExitStack, upstream_port: int) -> Samples:
    """Load the pool of every side in turn."""
    ports = {name: free_port() for name in POOL_SIDES}
    pids = {
        name: stack.enter_context(
            running_pool(
                Side(side.command, {**default_groups(upstream_port), **side.settings(upstream_port)}),
                ports[name],
            )
        )
        for name, side in POOL_SIDES.items()
    }
    body = json.dumps({"model": "fast", "messages": MESSAGES, "tenant_id": "bench"})
    found: Samples = {name: [] for name in POOL_SIDES}
    for _ in range(ROUNDS):
        for name, port in ports.items():
            found[name].append(_load(port, pids[name], body))
    return found


def _load(port: int, pid: int, body: str) -> tuple[float, float]:
    command = [sys.executable, str(HERE / "llm_pool_load.py"), str(port), "/complete", body]
    before = cpu_s([pid])
    done = subprocess.run(
        [*command, str(CONCURRENCY), str(SECONDS)], check=True, stdout=subprocess.PIPE, text=True
    )
    seen = json.loads(done.stdout)
    return seen["per_second"], (cpu_s([pid]) - before) / seen["served"] * 1000


@dataclass(frozen=True)
class Cell:
    """A worker with servers of its own, so that no other side's messages are in them."""

    worker: ManagedProcess
    environment: dict[str, str]


def start_worker(stack: ExitStack, folder: Path, side: Side, upstream_port: int = 1) -> Cell:
    """Start a worker, and what it needs."""
    folder.mkdir()
    folder.chmod(0o711)
    environment = start_parts(stack, folder)
    log = folder / "worker.log"
    worker = ManagedProcess(
        "worker", side.command, log=log, env={**environment, **side.settings(upstream_port)}
    )
    stack.enter_context(worker)
    worker.wait_ready(lambda: "ready." in log.read_text(), 300)
    return Cell(worker, environment)


def answer(cell: Cell, count: int) -> tuple[float, float]:
    """Have a worker answer so many messages that are recorded already."""
    messages = [
        KonstructMessage(
            tenant_id="acme", agent="ada", thread_id=os.urandom(8).hex(), sender="bench", text="hello"
        ).model_dump(mode="json")
        for _ in range(count)
    ]
    with psycopg.connect(cell.environment["BENCH_SUPERUSER_URL"]) as connection:
        connection.execute(
            "insert into messages (tenant_id, message_id, thread_id, agent, sender, channel, text, sent_at)"
            " select tenant_id, message_id, thread_id, agent, sender, channel, text, sent_at"
            " from jsonb_populate_recordset(null::messages, %s)",
            (json.dumps(messages),),
        )
    url = cell.environment["KONSTRUCT_REDIS_URL"]
    broker: Any = redis.Redis.from_url(url)
    before, began = cpu_s([cell.worker.pid]), time.monotonic()
    with app.connection_for_write(url) as link:
        for message in messages:
            app.send_task(TASK_NAME, args=(message,), connection=link)
    wait(lambda: broker.llen(QUEUE) == 0 and broker.hlen("unacked") == 0, f"{count} messages")
    seconds = time.monotonic() - began
    broker.close()
    return count / seconds, (cpu_s([cell.worker.pid]) - before) / count * 1000


def workers(cells: dict[str, Cell]) -> Samples:
    """Have the worker of every side answer in turn."""
    found: Samples = {name: [] for name in cells}
    for cell in cells.values():
        answer(cell, TASKS // 4)
    for _ in range(ROUNDS):
        for name, cell in cells.items():
            found[name].append(answer(cell, TASKS))
    return found


@contextmanager
def running_pool(side: Side, port: int) -> Iterator[int]:
    """Run a pool; give its process id."""
    listen = {"KONSTRUCT_LLM_POOL_LISTEN": f"127.0.0.1:{port}", "PYTHONPATH": str(HERE.parent)}
    with serving(side.command, {**listen, **side.environment}) as pid:
        wait_for(f"http://127.0.0.1:{port}/readyz")
        yield pid


def default_groups(upstream_port: int) -> dict[str, str]:
    """Have every provider configured; the group `fast` is what answers."""
    url = f"http://127.0.0.1:{upstream_port}"
    return {"ANTHROPIC_API_KEY": "k", "OPENAI_API_KEY": "k", "OLLAMA_BASE_URL": url}


def cpu_s(pids: list[int]) -> float:
    """Add up the processor time of processes."""
    times = [psutil.Process(pid).cpu_times() for pid in pids]
    return sum(each.user + each.system for each in times)


def _rows(what: str, samples: Samples) -> tuple[list[Row], list[str]]:
    """Compare every side with the first, by rounds that ran one after the other."""
    first, *others = samples
    rows = [
        Row(
            f"{what}, {name}",
            {
                "per second": statistics.median(rate for rate, _ in found),
                "CPU, ms": statistics.median(cpu for _, cpu in found),
            },
        )
        for name, found in samples.items()
    ]
    notes = []
    for name in others:
        pairs = list(zip(samples[first], samples[name], strict=True))
        ratio = statistics.median(side[0] / base[0] for base, side in pairs)
        cpu = statistics.median(base[1] / side[1] for base, side in pairs)
        met = "met" if ratio >= TARGET else "missed"
        notes.append(
            f"{what}: {name} is {ratio:.3f} of the throughput of {first} ({cpu:.3f} by processor time), "
            f"median of {len(pairs)} rounds; target {TARGET}: {met}"
        )
    return rows, notes


def main() -> None:
    """Measure, print and write the table."""
    app.conf.update(result_backend="disabled://")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="konstruct-bench-")))
        folder.chmod(0o711)
        upstream_port = free_port()
        stack.enter_context(serving([sys.executable, str(HERE / "upstream.py"), str(upstream_port)], {}))
        cells = {
            name: start_worker(stack, folder / str(number), side, upstream_port)
            for number, (name, side) in enumerate(WORKER_SIDES.items())
        }
        worker_samples = workers(cells)
        pool_samples = pools(stack, upstream_port)
    pool_rows, pool_notes = _rows("llm-pool", pool_samples)
    worker_rows, worker_notes = _rows("worker", worker_samples)
    for rows, notes, microseconds in (
        (pool_rows, pool_notes, pool_us()),
        (worker_rows, worker_notes, worker_us()),
    ):
        share = microseconds / 10 / rows[0].figures["CPU, ms"]
        notes.append(
            f"  the counting itself takes {microseconds:.0f} us, {share:.1f} % of its processor time"
        )
    write(
        "instrumentation",
        f"throughput with metrics and without: {CONCURRENCY} requests, 32 threads",
        pool_rows + worker_rows,
        pool_notes + worker_notes,
        samples={"llm-pool": pool_samples, "worker": worker_samples},
    )


if __name__ == "__main__":
    main()
