"""The worker process: its runtime is made when the worker starts and closed when it ends."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

from celery.signals import (
    celeryd_after_setup,
    setup_logging,
    worker_init,
    worker_ready,
    worker_shutdown,
    worker_shutting_down,
)

from orchestrator.main import app
from orchestrator.quarantine import Quarantine
from orchestrator.runtime import Runtime
from orchestrator.serving import StatusServer
from shared.config import ConfigurationError, load_settings

log = logging.getLogger(__name__)

_QUIET = ("celery.app.trace", "celery.worker.strategy", "celery.redirected", "httpx", "watchfiles.main")
"""Loggers whose INFO would write down what people say, or every request."""


class _Process:
    """What this process holds, once it is a worker."""

    runtime: Runtime | None = None
    """Its parts."""

    server: StatusServer | None = None
    """Its /metrics, /healthz and /readyz."""

    quarantine: Quarantine | None = None
    """What works on messages that workers died of."""


def runtime() -> Runtime:
    """Return the parts of this worker.

    Raises:
        RuntimeError: this process is no worker.
    """
    if _Process.runtime is None:
        raise RuntimeError("this process is no worker: handle_message runs in one, submit() queues for one")
    return _Process.runtime


@setup_logging.connect
def _log_to_stderr(**_: Any) -> None:
    """Set logging up in Celery's place: it would log every task's result, which is what agents say."""
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


@worker_init.connect
def _start(**_: Any) -> None:
    """Build the runtime; a worker that cannot is no worker (signals swallow other exceptions)."""
    try:
        made = Runtime.build(load_settings())
        made.start()
        _Process.runtime = made
        _Process.quarantine = Quarantine(made)
        _Process.quarantine.start()
        if made.settings.worker_listen is not None:
            _Process.server = StatusServer(made.settings.worker_listen, made)
            _Process.server.start()
    except ConfigurationError as error:
        sys.stderr.write(f"konstruct-worker: {error}\n")
        raise SystemExit(2) from None
    except Exception as error:
        log.exception("the worker cannot start")
        raise SystemExit(1) from error


@celeryd_after_setup.connect
def _prepare(**_: Any) -> None:
    """Connect without consuming, while there is nothing to answer from."""
    if _Process.runtime is not None:
        _Process.runtime.tap.prepare()


@worker_ready.connect
def _follow_gate(sender: Any, **_: Any) -> None:
    """Consume, from now on, whenever messages are accepted."""
    if _Process.runtime is not None:
        _Process.runtime.tap.start(sender)


@worker_shutting_down.connect
def _drain(**_: Any) -> None:
    """Begin to hand back what will not finish in time; Celery itself waits for ever."""
    if _Process.runtime is not None:
        _Process.runtime.tap.stop()
        log.info("shutting down: %d messages under way", len(_Process.runtime.running))
        _Process.runtime.running.drain()


@worker_shutdown.connect
def _close(**_: Any) -> None:
    if _Process.server is not None:
        _Process.server.stop()
    if _Process.quarantine is not None:
        _Process.quarantine.stop()
    if _Process.runtime is not None:
        _Process.runtime.close()


def run() -> None:
    """Entry point of ``konstruct-worker``: check the settings, then become a Celery worker."""
    try:
        settings = load_settings()
    except ConfigurationError as error:
        sys.stderr.write(f"konstruct-worker: {error}\n")
        sys.exit(2)
    app.worker_main(
        [
            "worker",
            "--pool=threads",
            f"--concurrency={settings.worker_concurrency}",
            # Several workers may share a host; two of one name would answer for each other.
            f"--hostname=worker-{os.getpid()}@%h",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
            "--loglevel=INFO",
        ]
    )
