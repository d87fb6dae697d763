"""What the counting itself takes for one request and for one message, in microseconds of processor time.

A difference of throughputs drowns in what else a machine does; this does not.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from llm_pool.gate import Load
from llm_pool.metrics import OK, Metrics
from orchestrator.metrics import WorkerMetrics
from shared.contract import Usage
from shared.reply import MessageStatus

REPEATS = 30
CALLS = 500


def pool_us() -> float:
    """Measure what the llm-pool counts for a request that is answered at the first call."""
    metrics, usage = Metrics(), Usage(prompt_tokens=120, completion_tokens=14)
    metrics.prepare({"fast": 1}, ["ollama"], (), dict)
    load = Load(256, metrics.in_flight)

    def count() -> None:
        load.change(1)
        metrics.attempt("ollama", OK, 0.2)
        metrics.reply("fast", usage, 0.001)
        metrics.finished("fast", "fast", OK, 0.3, 0.2)
        load.change(-1)

    return _best_us(count)


def worker_us() -> float:
    """Measure what a worker counts for a message that is answered."""
    metrics = WorkerMetrics()

    def count() -> None:
        metrics.finished(MessageStatus.ANSWERED, None)
        metrics.queue.observe(0.2)
        metrics.duration.observe(0.3)

    return _best_us(count)


def _best_us(count: Callable[[], None]) -> float:
    best = float("inf")
    for _ in range(REPEATS):
        began = time.process_time()
        for _ in range(CALLS):
            count()
        best = min(best, time.process_time() - began)
    return best / CALLS * 1e6
