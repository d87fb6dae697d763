"""Konstruct's own services as servers of the local stack: the llm-pool and the worker."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from pathlib import Path

from konstruct_cli.stack.process import ManagedProcess
from konstruct_cli.stack.server import Server, answers


class _Service(Server):
    """A service of ours, ready when it answers its health path."""

    READY_DEADLINE_S = 90.0  # importing LiteLLM alone is seconds of work, more on a busy machine

    MODULE: str
    """Module whose ``run`` is the service."""

    HEALTH: str
    """Path that answers when the service is up."""

    LISTEN: str
    """Setting that takes the address to listen on."""

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        log: Path,
        port: int | None = None,
        grace_s: float = 10.0,
        keep_open: Collection[int] = (),
    ) -> None:
        self._environment = dict(environment)
        self._grace_s = grace_s
        super().__init__(port=port, log=log, keep_open=keep_open)

    @property
    def base_url(self) -> str:
        """Where it answers; only after the launch."""
        return f"http://{self.address}"

    def _make_process(self) -> ManagedProcess:
        return ManagedProcess(
            self.NAME,
            # What its console script does, without depending on where scripts are installed; -P keeps the
            # working folder's files from being imported in place of packages.
            [sys.executable, "-P", "-c", f"from {self.MODULE} import run; run()"],
            log=self.log,
            env={**self._environment, self.LISTEN: self.address},
            grace_s=self._grace_s,
            keep_open=self._keep_open,
        )

    def _ready(self) -> bool:
        return answers(self.base_url + self.HEALTH)


class LlmPool(_Service):
    """The llm-pool."""

    NAME = "llm-pool"
    MODULE = "llm_pool.main"
    HEALTH = "/health"
    LISTEN = "KONSTRUCT_LLM_POOL_LISTEN"


class Worker(_Service):
    """A worker of the orchestrator."""

    NAME = "worker"
    MODULE = "orchestrator.worker"
    HEALTH = "/healthz"
    LISTEN = "KONSTRUCT_WORKER_LISTEN"
