"""What a scrape of each process costs, with every series that it can have."""

from __future__ import annotations

import http.client
import json
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import psutil

from bench.handle_message import wait
from bench.instrumentation import (
    ON,
    POOL_SIDES,
    WORKER_SIDES,
    Side,
    cpu_s,
    default_groups,
    running_pool,
    start_worker,
)
from bench.llm_pool import MODELS
from bench.llm_pool_servers import free_port, serving, wait_for
from bench.result import Row, write

SCRAPES = 100
TARGET_MS = 20.0


def scrape(name: str, port: int, pids: list[int]) -> Row:
    """Scrape again and again."""
    connection = http.client.HTTPConnection("127.0.0.1", port)

    def ask() -> str:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()

    series = sum(not line.startswith("#") for line in ask().splitlines())
    times, before = [], cpu_s(pids)
    for _ in range(SCRAPES):
        began = time.perf_counter()
        ask()
        times.append((time.perf_counter() - began) * 1000)
    cpu = (cpu_s(pids) - before) / SCRAPES * 1000
    return Row(name, {"series": series, "median, ms": statistics.median(times), "CPU, ms": cpu})


def scrapes(stack: ExitStack, folder: Path) -> list[Row]:
    """Scrape every kind of process, with as many series as it can have."""
    rows = []
    for name, groups, workers in (
        ("llm-pool, 2 groups, 3 deployments", None, 1),
        ("llm-pool, 10 groups, 30 deployments", 10, 1),
        ("llm-pool, 2 groups, 4 processes", None, 4),
    ):
        port = free_port()
        environment = {**default_groups(1), "KONSTRUCT_LLM_POOL_WORKERS": str(workers)}
        if groups is not None:
            environment["KONSTRUCT_LLM_POOL_CONFIG"] = str(_many_groups(folder, groups))
        with running_pool(Side(POOL_SIDES[ON].command, environment), port) as pid:
            wait(lambda pid=pid, workers=workers: _started(pid, workers), name)  # type: ignore[misc]
            children = [child.pid for child in psutil.Process(pid).children()]
            rows.append(scrape(name, port, [pid, *children]))
    port = free_port()
    listen = {"KONSTRUCT_WORKER_LISTEN": f"127.0.0.1:{port}"}
    cell = start_worker(stack, folder / "worker", Side(WORKER_SIDES[ON].command, listen))
    rows.append(scrape("worker", port, [cell.worker.pid]))
    port = free_port()
    operator = stack.enter_context(serving([sys.executable, "-m", "bench.operator_metrics", str(port)], {}))
    wait_for(f"http://127.0.0.1:{port}/healthz")
    rows.append(scrape("operator, 10000 Agents, 50 workers", port, [operator]))
    return rows


def _started(pid: int, workers: int) -> bool:
    """Whether every process of a pool listens: it has made its series then."""
    processes = psutil.Process(pid).children() if workers > 1 else [psutil.Process(pid)]
    listening = [p for p in processes if any(link.status == "LISTEN" for link in p.net_connections("tcp"))]
    return len(listening) == workers and all(p.cpu_percent(0.2) < 20 for p in processes)


def _many_groups(folder: Path, count: int) -> Path:
    """Write so many groups of three deployments; each falls back to the next two."""
    model, address, _ = MODELS["openai"]
    names = [f"group-{number}" for number in range(count)]
    params = {"model": model, "api_base": f"http://127.0.0.1:1{address}", "api_key": "k"}
    document = {
        "model_list": [{"model_name": name, "litellm_params": params} for name in names for _ in range(3)],
        "router_settings": {
            "fallbacks": [
                {name: [names[(number + step) % count] for step in (1, 2)]}
                for number, name in enumerate(names)
            ]
        },
    }
    path = folder / "litellm.yaml"
    path.write_text(json.dumps(document))  # JSON is YAML
    return path


def main() -> None:
    """Measure, print and write the table."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="konstruct-bench-")))
        folder.chmod(0o711)
        rows = scrapes(stack, folder)
    worst = max(row.figures["median, ms"] for row in rows)
    met = "met" if worst < TARGET_MS else "missed"
    title = f"a scrape of /metrics, median of {SCRAPES}"
    write("scrape", title, rows, [f"worst {worst:.1f} ms; target {TARGET_MS:.0f} ms: {met}"])


if __name__ == "__main__":
    main()
