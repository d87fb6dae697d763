"""A process for each message that workers died of: ``python -m orchestrator.isolated``.

Reads jobs, one a line, and answers each in a fork of its own: what a message does to its process ends with
it. Prints a line when it is ready, and one for each job: the fork's exit status, negative the signal that
ended it. It is started, fed and ended by :mod:`orchestrator.isolation`. It has no threads, so that it may
fork.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from orchestrator import tracing
from orchestrator.errors import DeliveryError
from orchestrator.job import AGAIN, RAISED, READY, Job
from orchestrator.runtime import Runtime
from orchestrator.tasks import run_steps
from orchestrator.worker import setup_worker_logs, start_worker_tracing
from shared.config import load_settings

log = logging.getLogger(__name__)

_OOM_SCORE = Path("/proc/self/oom_score_adj")


def main() -> None:
    """Answer the jobs on stdin until its end."""
    setup_worker_logs(load_settings())
    with suppress(OSError):  # not Linux
        # Where memory runs out, the kernel is to end these processes rather than the worker beside them.
        _OOM_SCORE.write_text("1000")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is for the fork; this one ends with its stdin
    _say(READY)
    for line in sys.stdin.buffer:
        _say(str(_try(line)))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _try(line: bytes) -> int:
    """Answer one job in a fork; return its exit status, negative the signal that ended it."""
    try:
        process = os.fork()
    except OSError as error:
        log.warning("no process can be started: %s", error.strerror)
        return AGAIN
    if process == 0:
        # What a fork, or something it leaves behind, says is not said in this process's name.
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        os._exit(_answer(line))
    _, status = os.waitpid(process, 0)
    return os.waitstatus_to_exitcode(status)


def _answer(line: bytes) -> int:
    """Answer one job; return the exit status of its process."""
    try:
        job = Job.model_validate_json(line)
        settings = load_settings()
        # Before it is ended for hanging it says where.
        faulthandler.dump_traceback_later(settings.message_deadline_s)
        key = (job.message.tenant_id, job.message.agent)
        runtime = Runtime.isolated(settings, job.owner, key, job.served())

        def drain(*_: Any) -> None:
            runtime.drain()

        signal.signal(signal.SIGTERM, drain)
        stop_tracing = start_worker_tracing(settings)
        runtime.start_answering()
        try:
            with tracing.handling(job.headers):
                run_steps(job.message.model_dump(mode="json"), runtime)
        finally:
            runtime.close()
            stop_tracing()
    except DeliveryError:
        return AGAIN
    except Exception:
        log.exception("a process stumbled over a suspected message")
        return RAISED
    return 0


if __name__ == "__main__":
    main()
