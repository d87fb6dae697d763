"""The pool's own cost, beside that of LiteLLM's proxy: both in one run, behind the same upstream.

``python -m bench.llm_pool`` starts the upstream, the pool and the proxy, one worker each, all from the
same LiteLLM configuration file, and loads them in turn at 1 and 32 concurrent requests. It prints
requests per second and the milliseconds added to the upstream's own, and writes both to
``bench/results/llm_pool.{json,txt}``. The proxy is installed once, from its own hashed lock, into
the user's cache.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from bench.llm_pool_servers import START_TIMEOUT_S, free_port, install_proxy, serving, wait_for

HERE = Path(__file__).resolve().parent
"""This folder."""

RESULTS = HERE / "results"
"""Where results are written."""

CONCURRENCIES = (1, 32)
"""Requests under way at once."""

MODELS = {
    "openai": ("openai/gpt-4o", "/v1", "/v1/chat/completions"),
    "anthropic": ("anthropic/claude-sonnet-4-20250514", "", "/v1/messages"),
    "ollama": ("ollama_chat/qwen3:8b", "", "/api/chat"),
}
"""Groups that are measured: LiteLLM's model, the API base's path, the upstream's path."""

MESSAGES = [
    {"role": "system", "content": "You are Ada, an assistant at a small company. " * 8},
    {"role": "user", "content": "When is the meeting?"},
    {"role": "assistant", "content": "Which one do you mean?"},
    {"role": "user", "content": "The one about the budget. " * 4},
]
"""The conversation that is sent."""


@dataclass(frozen=True)
class Row:
    """One side under one load."""

    provider: str
    """Group that was asked."""

    side: str
    """``direct``, ``konstruct`` or ``litellm-proxy``."""

    concurrency: int
    """Requests under way at once."""

    per_second: float
    """Answers per second, median of the rounds."""

    median_ms: float
    """Median time of an answer, median of the rounds."""

    p99_ms: float
    """99th percentile, median of the rounds."""

    added_ms: float
    """`median_ms` above that of the upstream asked directly."""

    cpu_ms: float
    """Processor time of the server's process for an answer; hardly moved by what else the machine does."""


@dataclass(frozen=True)
class Server:
    """A server under load."""

    port: int
    """Its port on localhost."""

    pid: int
    """Its process, the only one: one worker each."""


def measure(*, seconds: float, rounds: int, providers: tuple[str, ...] = tuple(MODELS)) -> list[Row]:
    """Measure both sides in turn, `rounds` times for `seconds` each."""
    proxy_python = install_proxy()
    upstream_port, pool_port, proxy_port = free_port(), free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "litellm.yaml"
        config.write_text(json.dumps(_config(upstream_port)), encoding="utf-8")  # JSON is YAML
        pool_env = {
            "KONSTRUCT_LLM_POOL_CONFIG": str(config),
            "KONSTRUCT_LLM_POOL_LISTEN": f"127.0.0.1:{pool_port}",
        }
        proxy = [str(proxy_python.parent / "litellm"), "--config", str(config), "--host", "127.0.0.1"]
        with (
            serving([sys.executable, str(HERE / "upstream.py"), str(upstream_port)], {}) as upstream_pid,
            serving([sys.executable, "-m", "llm_pool.main"], pool_env) as pool_pid,
            serving([*proxy, "--port", str(proxy_port), "--num_workers", "1"], {}) as proxy_pid,
        ):
            wait_for(f"http://127.0.0.1:{pool_port}/readyz")
            wait_for(f"http://127.0.0.1:{proxy_port}/health/liveliness")
            servers = {
                "direct": Server(upstream_port, upstream_pid),
                "konstruct": Server(pool_port, pool_pid),
                "litellm-proxy": Server(proxy_port, proxy_pid),
            }
            return [
                row
                for provider in providers
                for concurrency in CONCURRENCIES
                for row in _compare(provider, concurrency, servers, seconds, rounds)
            ]


def _compare(
    provider: str, concurrency: int, servers: dict[str, Server], seconds: float, rounds: int
) -> list[Row]:
    chat = json.dumps({"model": provider, "messages": MESSAGES})
    asked = json.dumps({"model": provider, "messages": MESSAGES, "tenant_id": "bench"})
    targets = {
        "direct": (MODELS[provider][2], chat),
        "konstruct": ("/complete", asked),
        "litellm-proxy": ("/v1/chat/completions", chat),
    }
    for side, (path, body) in targets.items():
        _first_request(servers[side].port, path, body)
    seen: dict[str, list[dict[str, float]]] = {side: [] for side in targets}
    for _ in range(rounds):
        for side, (path, body) in targets.items():
            seen[side].append(_load(servers[side], path, body, concurrency, seconds))

    def median(side: str, what: str) -> float:
        return statistics.median(run[what] for run in seen[side])

    direct_ms = median("direct", "median_ms")
    return [
        Row(
            provider=provider,
            side=side,
            concurrency=concurrency,
            per_second=round(median(side, "per_second"), 1),
            median_ms=round(median(side, "median_ms"), 3),
            p99_ms=round(median(side, "p99_ms"), 3),
            added_ms=round(median(side, "median_ms") - direct_ms, 3),
            cpu_ms=round(median(side, "cpu_ms"), 3),
        )
        for side in targets
    ]


def _first_request(port: int, path: str, body: str) -> None:
    """Ask once, with patience: the proxy imports a provider's code when it is first asked."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", body.encode(), {"Content-Type": "application/json"}
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    opener.open(request, timeout=START_TIMEOUT_S).close()


def _load(server: Server, path: str, body: str, concurrency: int, seconds: float) -> dict[str, float]:
    command = [sys.executable, str(HERE / "llm_pool_load.py"), str(server.port), path, body]
    process = psutil.Process(server.pid)
    before = process.cpu_times()
    done = subprocess.run(
        [*command, str(concurrency), str(seconds)], check=True, stdout=subprocess.PIPE, text=True
    )
    after = process.cpu_times()
    seen: dict[str, float] = json.loads(done.stdout)
    used = after.user + after.system - before.user - before.system
    seen["cpu_ms"] = used / seen["served"] * 1000
    return seen


def _config(upstream_port: int) -> dict[str, object]:
    root = f"http://127.0.0.1:{upstream_port}"
    return {
        "model_list": [
            {
                "model_name": group,
                "litellm_params": {"model": model, "api_base": root + base, "api_key": "bench"},
            }
            for group, (model, base, _) in MODELS.items()
        ],
    }


def table(rows: list[Row]) -> str:
    """Format the rows for people, with how the sides compare."""
    head = ("provider", "conc.", "side", "req/s", "median ms", "added ms", "p99 ms", "cpu ms")
    lines = ["{:<10} {:>5} {:<14} {:>8} {:>10} {:>9} {:>8} {:>7}".format(*head)]
    lines.extend(
        f"{row.provider:<10} {row.concurrency:>5} {row.side:<14} {row.per_second:>8.1f} "
        f"{row.median_ms:>10.3f} {row.added_ms:>9.3f} {row.p99_ms:>8.2f} {row.cpu_ms:>7.2f}"
        for row in rows
    )
    lines.append("")
    by_key = {(row.provider, row.concurrency, row.side): row for row in rows}
    for provider, concurrency in dict.fromkeys((row.provider, row.concurrency) for row in rows):
        ours = by_key[provider, concurrency, "konstruct"]
        theirs = by_key[provider, concurrency, "litellm-proxy"]
        lines.append(
            f"{provider}, {concurrency} concurrent: {ours.per_second / theirs.per_second:.2f} times the "
            f"requests per second, {ours.added_ms / theirs.added_ms:.2f} of the added latency, "
            f"{ours.cpu_ms / theirs.cpu_ms:.2f} of the processor time"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of one measured run")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each side, in turn")
    parser.add_argument("--provider", choices=[*MODELS], action="append", help="only this provider")
    arguments = parser.parse_args()
    providers = tuple(arguments.provider or MODELS)
    rows = measure(seconds=arguments.seconds, rounds=arguments.rounds, providers=providers)
    text = table(rows)
    print(text)
    RESULTS.mkdir(exist_ok=True)
    document = {
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "load_average": os.getloadavg(),
        "seconds": arguments.seconds,
        "rounds": arguments.rounds,
        "rows": [asdict(row) for row in rows],
    }
    (RESULTS / "llm_pool.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    (RESULTS / "llm_pool.txt").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
