"""A process for each message that workers died of: ``python -m orchestrator.isolated``.

Reads jobs, one a line, and answers each in a fork of its own: what a message does to its process ends with
it. Prints a line for each: the fork's exit status, negative the signal that ended it. It is started, fed
and ended by :mod:`orchestrator.isolation`. It has no threads, so that it may fork.
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
from orchestrator.job import AGAIN, Job
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
    for line in sys.stdin.buffer:
        process = os.fork()
        if process == 0:
            os._exit(_answer(line))
        _, status = os.waitpid(process, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


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
        log.exception("a suspected message could not be tried")
        return AGAIN
    return 0


if __name__ == "__main__":
    main()
