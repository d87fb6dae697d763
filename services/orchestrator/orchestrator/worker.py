"""The worker process: its runtime is made when the worker starts and closed when it ends."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import celery.apps.worker
from celery.signals import (
    celeryd_after_setup,
    setup_logging,
    worker_init,
    worker_ready,
    worker_shutdown,
    worker_shutting_down,
)

from orchestrator.broker import refuse_untrusted_redis
from orchestrator.envelopes import be_careful
from orchestrator.main import app
from orchestrator.quarantine import Quarantine
from orchestrator.runtime import Runtime
from orchestrator.serving import StatusServer
from shared.config import ConfigurationError, Settings, load_settings
from shared.logs import setup_logs
from shared.tls import TRUST_POSTGRESQL, certificate_fault
from shared.tracing import check_tracing, start_tracing, trace_ids

log = logging.getLogger(__name__)

_QUIET = ("celery.app.trace", "celery.worker.strategy", "celery.redirected", "httpx", "watchfiles.main")
"""Loggers whose INFO would write down what people say, or every request."""

_QUOTING = "celery.worker.consumer.consumer"
"""Logger of Celery's complaints about a delivery that is no task of ours; they quote its body."""


class _Process:
    """What this process holds, once it is a worker."""

    runtime: Runtime | None = None
    """Its parts."""

    server: StatusServer | None = None
    """Its /metrics, /healthz and /readyz."""

    quarantine: Quarantine | None = None
    """What works on messages that workers died of."""

    stop_tracing: Callable[[], None] | None = None
    """Sends the spans that are left."""


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
    setup_worker_logs(load_settings())
    # Celery also prints, at a signal; that it shuts down is a line of ours.
    setattr(celery.apps.worker, "safe_say", lambda *_: None)  # noqa: B010 - the stubs do not know it


def setup_worker_logs(settings: Settings) -> None:
    """Write the log of a worker, or of a process that works for one."""
    setup_logs(settings, "worker", quiet=_QUIET, ids=trace_ids)
    logging.getLogger(_QUOTING).addFilter(_hide_delivery)


def start_worker_tracing(settings: Settings) -> Callable[[], None]:
    """Send the spans of a worker, or of a process that works for one; returns what ends that."""
    return start_tracing(settings, "konstruct-worker", version("konstruct-orchestrator"))


def _hide_delivery(record: logging.LogRecord) -> bool:
    """Keep what a delivery says out of the complaint about it."""
    if "body" in str(record.msg):
        record.msg, record.args = "a delivery that is no message was thrown away", ()
    return True


@worker_init.connect
def _start(**_: Any) -> None:
    """Build the runtime; a worker that cannot is no worker (signals swallow other exceptions)."""
    try:
        settings = load_settings()
        _Process.stop_tracing = start_worker_tracing(settings)
        refuse_untrusted_redis(settings)
        made = Runtime.build(settings)
        if made.settings.worker_listen is not None:
            _Process.server = StatusServer(made.settings.worker_listen, made)
            _Process.server.start()
        made.start()
        _Process.runtime = made
        _Process.quarantine = Quarantine(made)
        _Process.quarantine.start()
    except ConfigurationError as error:
        sys.stderr.write(f"konstruct-worker: {error}\n")
        raise SystemExit(2) from None
    except Exception as error:
        if (fault := certificate_fault(error)) is not None:
            sys.stderr.write(f"konstruct-worker: KONSTRUCT_DATABASE_URL: {fault}. {TRUST_POSTGRESQL}\n")
            raise SystemExit(2) from None
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
        _Process.runtime.drain()


@worker_shutdown.connect
def _close(**_: Any) -> None:
    if _Process.server is not None:
        _Process.server.stop()
    if _Process.quarantine is not None:
        _Process.quarantine.stop()
    if _Process.runtime is not None:
        _Process.runtime.close()
    if _Process.stop_tracing is not None:
        _Process.stop_tracing()


def run() -> None:
    """Entry point of ``konstruct-worker``: check the settings, then become a Celery worker."""
    try:
        settings = load_settings()
        check_tracing(settings)
    except ConfigurationError as error:
        sys.stderr.write(f"konstruct-worker: {error}\n")
        sys.exit(2)
    # Until Celery takes this over. As process 1 of a container, one without a handler is not ended by it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    be_careful()
    _log_to_stderr()  # Celery asks for it only after it has had warnings to give
    app.worker_main(
        [
            "--quiet",  # its banner is no line of a log
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
