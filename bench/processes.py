"""Memory and start-up time of each process, and how much of both is the libraries it imports."""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import psutil

from bench.handle_message import start_parts
from bench.result import Row, write
from konstruct_cli.stack.process import ManagedProcess, claim_port

ROUNDS = 3

Ready = Callable[[dict[str, str], Path], bool]


def main() -> None:
    """Measure, print and write the table."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="konstruct-bench-")))
        folder.chmod(0o711)
        environment = start_parts(stack, folder)
        commands: dict[str, tuple[str, Ready]] = {
            "llm-pool": ("from llm_pool.main import run; run()", _pool_ready),
            "worker": ("from orchestrator.worker import run; run()", _worker_ready),
            "import litellm": (_hold("litellm"), _imported),
            "import celery, sqlalchemy": (_hold("celery.app.base, sqlalchemy.orm"), _imported),
            "import nothing": (_hold("sys"), _imported),
        }
        rows = [
            _row(name, folder, environment, ["-c", code], ready) for name, (code, ready) in commands.items()
        ]
    write("processes", "start-up and memory, median of 3 (idle)", rows)


def _hold(modules: str) -> str:
    return f"import {modules}, time; print('imported', flush=True); time.sleep(60)"


def _pool_ready(environment: dict[str, str], _log: Path) -> bool:
    try:
        with urllib.request.urlopen(f"http://{environment['KONSTRUCT_LLM_POOL_LISTEN']}/health", timeout=1):
            return True
    except (urllib.error.URLError, OSError):
        return False


def _worker_ready(_environment: dict[str, str], log: Path) -> bool:
    return " ready." in log.read_text()


def _imported(_environment: dict[str, str], log: Path) -> bool:
    return "imported" in log.read_text()


def _row(
    name: str,
    folder: Path,
    environment: dict[str, str],
    command: list[str],
    ready: Ready,
) -> Row:
    seconds, megabytes, cpu = [], [], []
    for number in range(ROUNDS):
        env = {
            **{key: value for key, value in environment.items() if not key.startswith("BENCH")},
            "KONSTRUCT_LLM_POOL_LISTEN": f"127.0.0.1:{claim_port(name, None)}",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "HOME": os.environ.get("HOME", "/"),
        }
        log = folder / f"{name.replace(' ', '-')}-{number}.log"
        process = ManagedProcess(name, [sys.executable, *command], log=log, env=env)
        began = time.monotonic()
        with process:
            process.wait_ready(lambda env=env, log=log: ready(env, log), 90)  # type: ignore[misc]
            seconds.append(time.monotonic() - began)
            seen = psutil.Process(process.pid)
            megabytes.append(seen.memory_info().rss / 1e6)
            times = seen.cpu_times()
            cpu.append(times.user + times.system)
    return Row(
        name,
        {
            "start-up, s": statistics.median(seconds),
            "CPU to start, s": statistics.median(cpu),
            "memory, MB": statistics.median(megabytes),
        },
    )


if __name__ == "__main__":
    main()
