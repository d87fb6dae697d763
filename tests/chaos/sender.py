"""A sender as a process of its own: numbered messages at a steady rate, each noted when it is accepted.

    python -m tests.chaos.sender RUN JOURNAL

A message that is refused is submitted again until it is accepted, as a good sender does. SIGINT ends the
process when each thread has finished its message; any other signal ends it as it ends any process.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

from sqlalchemy import Engine

from orchestrator.errors import StoreUnavailableError
from orchestrator.sending import submit
from shared.config import load_settings
from shared.db import make_engine
from shared.models import KonstructMessage
from tests.chaos.words import AGENTS, text_of

LANES = 4
"""Threads of each tenant; each has its own conversations."""

EVERY_S = 1.0
"""Seconds between two messages of a thread."""

RATE = len(AGENTS) * LANES / EVERY_S
"""Messages a second of the whole process."""

TURNS = 10
"""Messages of one conversation."""

AGAIN_S = 0.2
"""Seconds until what was refused is submitted again."""


class Sender:
    """The threads, and their journal."""

    def __init__(self, run: str, journal: Path, engine: Engine) -> None:
        self._run = run
        self._engine = engine
        # Not buffered: a line that was written is there whatever becomes of the process.
        self._journal = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self.stop = threading.Event()

    def main(self) -> None:
        """Send until told to stop."""
        lanes = [
            threading.Thread(target=self._send_all, args=(tenant, lane))
            for tenant in AGENTS
            for lane in range(LANES)
        ]
        for thread in lanes:
            thread.start()
            self.stop.wait(EVERY_S / len(lanes))  # spread over the interval
        for thread in lanes:
            thread.join()

    def _send_all(self, tenant: str, lane: int) -> None:
        number = 0
        due = time.monotonic()
        while not self.stop.wait(max(due - time.monotonic(), 0)):
            # What could not be sent in time is not made up for: the rate is steady, or less.
            due = max(due + EVERY_S, time.monotonic())
            message_id = f"{self._run}-{tenant}-{lane}-{number}"
            message = KonstructMessage(
                tenant_id=tenant,
                message_id=message_id,
                thread_id=f"{self._run}-{tenant}-{lane}-{number // TURNS}",
                agent=AGENTS[tenant],
                sender="chaos",
                text=text_of(tenant, message_id),
            )
            self._submit(message)
            number += 1

    def _submit(self, message: KonstructMessage) -> None:
        while not self.stop.is_set():
            try:
                submit(message, on=self._engine)
            except StoreUnavailableError:
                self.stop.wait(AGAIN_S)
            else:
                os.write(self._journal, f"{message.tenant_id} {message.message_id}\n".encode())
                return


def main() -> None:
    """Run the process."""
    run, journal = sys.argv[1:]
    sender = Sender(run, Path(journal), make_engine(load_settings()))
    signal.signal(signal.SIGINT, lambda *_: sender.stop.set())
    sender.main()


if __name__ == "__main__":
    main()
