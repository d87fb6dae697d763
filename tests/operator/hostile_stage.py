"""Two tenants of one operator and one worker: one writes what it likes, the other's edits are timed."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from shared.kube.names import agent_path, agents_path
from tests.operator.operator_stage import AdminApi, OperatorProcess, OperatorStage
from tests.operator.worker_stage import Stage, Worker
from tests.support.waiting import eventually

FEW_S = 5.0
"""Longest that an edit of one tenant may take, whatever another writes, on a busy machine."""

WRITERS = 4
"""Requests that a flood has under way."""

WHO = "vera"
"""The agent of the tenant whose edits are timed."""


@dataclass
class Neighbours:
    """An operator and a worker, and the namespaces of the two tenants."""

    stage: OperatorStage
    operator: OperatorProcess
    workers: Stage
    worker: Worker
    edits: int = 0

    @property
    def api(self) -> AdminApi:
        return self.stage.api

    @property
    def acme(self) -> str:
        """Namespace and tenant of whoever writes what it likes."""
        return self.stage.spaces[0]

    @property
    def globex(self) -> str:
        """Namespace and tenant of the other."""
        return self.stage.spaces[1]

    def edit(self) -> float:
        """Edit the agent of ``globex``, and return the seconds until the worker has the edit in effect."""
        self.edits += 1
        before = str(self.stage.status(WHO, self.globex).get("activeRevision", ""))
        began = time.monotonic()
        self.stage.apply(WHO, self.globex, systemPrompt=f"Edit {self.edits}.")
        revision = self.stage.revision(WHO, self.globex, other_than=before, within_s=60)
        told = f"revision {revision} is in effect"
        eventually(lambda: told in self.worker.log(), within_s=60, what=f"edit {self.edits} in effect")
        return time.monotonic() - began

    def begin(self) -> None:
        """Make the agent of ``globex``; what follows are edits of it."""
        self.stage.apply(WHO, self.globex)
        self.stage.until("Ready", "True", "Ready", WHO, self.globex)

    def clear(self) -> None:
        """Delete what ``acme`` has made."""
        everything = ("--all", f"--namespace={self.acme}", "--wait=false")
        for kind in ("agents", "configmaps"):
            self.stage.cluster.kubectl("delete", kind, *everything)
        eventually(lambda: not self.api.list(agents_path(self.acme)), what="no Agent any more")

    def unharmed(self) -> None:
        """Whether both processes work on, without a fault of their own."""
        assert not self.operator.ended()
        assert self.worker.process.exit_code() is None
        assert self.operator.healthy()
        assert faults(self.operator.log()) == faults(self.worker.log()) == []

    def write(self, path: str, change: dict[str, Any]) -> httpx.Response:
        """Change an object as a tenant's administrator does."""
        answer = self.api.merge(path, change)
        assert answer.status_code < 500, answer.text
        return answer

    def make_agents(self, number: int) -> list[str]:
        """Make that many Agents of ``acme``."""
        names = [f"a{one}" for one in range(number)]
        with ThreadPoolExecutor(WRITERS) as pool:
            list(pool.map(lambda name: self.stage.apply(name, self.acme), names))
        return names

    @contextmanager
    def flood(self, names: list[str]) -> Iterator[list[int]]:
        """Apply Agents of ``acme`` again and again, as fast as the API server takes it; gives a count."""
        over, count = threading.Event(), [0]
        turns = itertools.cycle(names)

        def write() -> None:
            api = AdminApi(self.stage.cluster)
            while not over.is_set():
                count[0] += 1
                spec = {"spec": {"systemPrompt": f"Flood {count[0]}."}}
                api.merge(agent_path(self.acme, next(turns)), spec)
            api.close()

        writers = [threading.Thread(target=write, name=f"flood-{one}") for one in range(WRITERS)]
        for writer in writers:
            writer.start()
        try:
            yield count
        finally:
            over.set()
            for writer in writers:
                writer.join()


def faults(log: str) -> list[str]:
    """Give the lines of a log that tell of a program's own fault."""
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert lines
    bad = [line for line in lines if "exception" in line or line["level"] == "critical"]
    return [str(line) for line in bad] + (["a traceback"] if "Traceback" in log else [])
