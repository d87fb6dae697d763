"""Many messages through the whole local stack, and whether anything grows: ``make soak COUNT=20000``.

Each part is a process: PostgreSQL, Redis, the llm-pool, a worker, and a sender that submits for three
tenants. Every second their memory, descriptors and threads are read, with PostgreSQL's connections and the
keys and memory of Redis. The first quarter, in which pools and caches fill, is left out.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import redis as redis_client

from bench.result import Row, write
from bench.trend import FLAT_COUNT, FLAT_SHARE, trend
from konstruct_cli.stack.postgres import Postgres
from konstruct_cli.stack.process import ManagedProcess
from konstruct_cli.stack.redis import Redis
from konstruct_cli.stack.services import LlmPool, Worker
from tests.chaos.words import AGENTS
from tests.observability.stubs import Providers
from tests.support.database import fresh_database, make_template
from tests.support.providers import answer
from tests.support.worker import write_agent

ROOT = Path(__file__).parents[1]
WARM_UP = 0.25
SAMPLE_S = 1.0
BYTES = ("rss", "memory")
"""Figures that are weighed in bytes; the others are counted."""


class Stack:
    """What runs, and what is read of it."""

    def __init__(self, end: ExitStack, folder: Path, count: int) -> None:
        folder.chmod(0o711)
        self.providers = end.enter_context(
            Providers({name: answer() for name in ("anthropic", "openai", "ollama")})
        )
        self.redis = end.enter_context(Redis(folder / "redis"))
        postgres = end.enter_context(Postgres(folder / "postgres"))
        self.database = end.enter_context(fresh_database(postgres, make_template(postgres)))
        (folder / "agents").mkdir()
        for tenant, agent in AGENTS.items():
            write_agent(folder / "agents", tenant, agent)
        path = {"PATH": os.environ["PATH"]}
        environment = {
            **path,
            "KONSTRUCT_DATABASE_URL": self.database.service_url,
            "KONSTRUCT_SYSTEM_DATABASE_URL": self.database.system_url,
            "KONSTRUCT_REDIS_URL": self.redis.url(),
        }
        pool = end.enter_context(LlmPool(path | self.providers.environment(), log=folder / "pool.log"))
        more = {"KONSTRUCT_LLM_POOL_URL": pool.base_url, "KONSTRUCT_AGENTS_DIR": str(folder / "agents")}
        worker = end.enter_context(Worker(environment | more, log=folder / "worker.log"))
        sender = end.enter_context(
            ManagedProcess(
                "sender",
                [sys.executable, "-m", "bench.soak_sender", str(count)],
                log=folder / "sender.log",
                env=environment | {"PYTHONPATH": str(ROOT)},
                stop_signal=signal.SIGINT,
            )
        )
        self.sender = sender
        pids = {
            "llm-pool": pool.process.pid,
            "worker": worker.process.pid,
            "sender": sender.pid,
            "redis": self.redis.process.pid,
        }
        self.processes = {name: psutil.Process(pid) for name, pid in pids.items()}
        self.client = redis_client.Redis.from_url(self.redis.url())
        end.callback(self.client.close)

    def answered(self) -> int:
        """Count the answered messages."""
        [(count,)] = self.database.rows("select count(*) from messages where status = 'answered'")
        return int(str(count))

    def sample(self) -> dict[str, float]:
        """Read every figure once."""
        for stub in self.providers.stubs.values():
            for seen in (stub.requests, stub.headers, stub.acts, stub.paths):
                seen.clear()
        found: dict[str, float] = {}
        for name, process in self.processes.items():
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found[f"{name}: rss"] = process.memory_info().rss
                found[f"{name}: descriptors"] = process.num_fds()
                found[f"{name}: threads"] = process.num_threads()
        [(connections,)] = self.database.rows(
            "select count(*) from pg_stat_activity where backend_type = 'client backend'"
        )
        found["postgresql: connections"] = float(str(connections))
        found["redis: keys"] = float(str(self.client.dbsize()))
        found["redis: memory"] = float(self.client.info("memory")["used_memory"])
        return found


def main() -> None:
    """Run, print and write the table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    with tempfile.TemporaryDirectory(prefix="konstruct-soak-") as folder, ExitStack() as end:
        stack = Stack(end, Path(folder), count)
        began = time.monotonic()
        samples = list(_watch(stack, count))
        seconds = time.monotonic() - began
        [(lost,)] = stack.database.rows("select count(*) from messages where status <> 'answered'")
    done = samples[-1][0]
    kept = [(answered, found) for answered, found in samples if answered >= done * WARM_UP]
    rows, growing = [], []
    for name in kept[0][1]:
        points = [(answered, found[name]) for answered, found in kept if name in found]
        counted = not name.endswith(BYTES)
        unit = 1 if counted else 1e6
        found = trend([at for at, _ in points], [value for _, value in points], counted=counted)
        figures = {
            "level": found.level / unit,
            "first": points[0][1] / unit,
            "last": points[-1][1] / unit,
            "slope per 1,000": found.slope / unit,
        }
        rows.append(Row(name + ("" if counted else ", MB") + ("" if found.flat else " GROWS"), figures))
        growing += [] if found.flat else [name]
    title = f"{done:,} messages in {seconds:.0f} s ({done / seconds:.0f} a second), {lost} not answered"
    bound = f"{FLAT_SHARE:.2%} of the level in 1,000 messages, and {FLAT_COUNT:g} of what is counted"
    verdict = f"growing: {', '.join(growing)}" if growing else "everything is flat"
    write("soak", title, rows, [f"{verdict} (flat: at most {bound}; the first quarter is left out)"])
    sys.exit(1 if growing or lost else 0)


def _watch(stack: Stack, count: int) -> Iterator[tuple[int, dict[str, float]]]:
    """Sample until all is answered, or until the operator of this benchmark has had enough (SIGINT)."""
    with _interruptible() as stopped:
        answered = 0
        while answered < count and not stopped:
            time.sleep(SAMPLE_S)
            answered = stack.answered()
            yield answered, stack.sample()
            if stack.sender.exit_code() not in (None, 0):
                sys.exit(f"the sender ended: {stack.sender.tail()}")


@contextmanager
def _interruptible() -> Iterator[list[int]]:
    seen: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: seen.append(number))
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)


if __name__ == "__main__":
    main()
