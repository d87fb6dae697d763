"""The llm-pool or the worker with metrics that do nothing: what counting costs is the difference.

``python -m bench.unmetered pool`` and ``python -m bench.unmetered worker``.
"""

from __future__ import annotations

import sys
from typing import Any, cast

from prometheus_client import Gauge

import llm_pool.main
import orchestrator.runtime
import orchestrator.worker
from llm_pool.metrics import Metrics
from orchestrator.metrics import WorkerMetrics


class Nothing:
    """Counts nothing."""

    def inc(self, _amount: float = 1) -> None:
        pass

    def set(self, _value: float) -> None:
        pass

    def observe(self, _amount: float) -> None:
        pass


class SilentPool(Metrics):
    """The pool's metrics, without effect."""

    def __init__(self, *_: Any) -> None:
        super().__init__()
        self.in_flight = cast(Gauge, Nothing())

    def attempt(self, *_: Any) -> None:
        pass

    def cools(self, *_: Any) -> None:
        pass

    def fallback(self, *_: Any) -> None:
        pass

    def reply(self, *_: Any) -> None:
        pass

    def finished(self, *_: Any) -> None:
        pass

    def refused(self, *_: Any) -> None:
        pass


class SilentWorker(WorkerMetrics):
    """The worker's metrics, without effect."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("duration", "queue", "put_back", "backlog"):
            setattr(self, name, Nothing())

    def finished(self, *_: Any) -> None:
        pass

    def refuse(self, *_: Any) -> None:
        pass


if __name__ == "__main__":
    if sys.argv.pop() == "pool":
        vars(llm_pool.main)["Metrics"] = SilentPool
        llm_pool.main.run()
    else:
        vars(orchestrator.runtime)["WorkerMetrics"] = SilentWorker
        orchestrator.worker.run()
