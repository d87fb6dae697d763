"""Several processes behind one port: ``KONSTRUCT_LLM_POOL_WORKERS``. Starts them, replaces them, ends them.

The parent takes the port and never accepts; it imports nothing of what the pool is made of. Not uvicorn's own
supervisor: that takes a process for dead which imports for longer than its patience, and starts for ever
what cannot start.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from llm_pool.shared_values import FOLDER_VARIABLE, leave_slot
from shared.config import ConfigurationError, Settings, load_settings
from shared.logs import setup_logs
from shared.net import host_and_port

EXIT_USAGE = 2
"""Exit status when the configuration is not usable; a process that ends so is not started again."""

REPLACE_S = 1.0
"""Seconds between the end of a process and its replacement."""

log = logging.getLogger(__name__)


class Processes:
    """The processes that accept on one listener, one in each slot."""

    def __init__(self, listener: socket.socket, folder: Path) -> None:
        """`folder` is where their metrics are."""
        self._listener = listener
        self._folder = folder
        self._running: dict[int, asyncio.subprocess.Process] = {}
        self._stopping = asyncio.Event()
        self._status = 0

    async def serve(self, count: int) -> int:
        """Keep `count` processes until told to stop and they have finished; return the exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        async with asyncio.TaskGroup() as group:
            for slot in range(count):
                group.create_task(self._keep(slot))
        return self._status

    async def _keep(self, slot: int) -> None:
        """Run a process in `slot`, and another when it ends."""
        while not self._stopping.is_set():
            process = self._running[slot] = await self._start(slot)
            status = await process.wait()
            del self._running[slot]
            leave_slot(self._folder, slot)
            if self._stopping.is_set():
                return
            if status == EXIT_USAGE:
                self._status = status
                self._stop()
                return
            log.error("process %d of slot %d has ended with status %d", process.pid, slot, status)
            with suppress(TimeoutError):
                async with asyncio.timeout(REPLACE_S):
                    await self._stopping.wait()

    async def _start(self, slot: int) -> asyncio.subprocess.Process:
        listener = self._listener.fileno()
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "llm_pool.process",
            str(listener),
            str(slot),
            # Nothing is ever written to it: its end is how a process learns that its parent is gone.
            stdin=subprocess.PIPE,
            pass_fds=[listener],
            env={**os.environ, FOLDER_VARIABLE: str(self._folder)},
        )

    def _stop(self) -> None:
        """Tell every process to finish what is under way; nobody may connect from now on."""
        self._stopping.set()
        self._listener.close()
        for process in self._running.values():
            with suppress(ProcessLookupError):
                process.terminate()


def run() -> None:
    """Take the place of ``konstruct-llm-pool``, which has found the configuration to be good."""
    settings = load_settings()
    setup_logs(settings, "llm-pool")
    try:
        listener = _bind(settings)
    except ConfigurationError as error:
        sys.stderr.write(f"konstruct-llm-pool: {error}\n")
        sys.exit(EXIT_USAGE)
    with tempfile.TemporaryDirectory(prefix="konstruct-llm-pool-") as folder, listener:
        status = asyncio.run(Processes(listener, Path(folder)).serve(settings.llm_pool_workers))
    sys.exit(status)


def _bind(settings: Settings) -> socket.socket:
    """Take the port. The first process that can serve listens: nobody is to wait for one that cannot."""
    host, port = host_and_port(settings.llm_pool_listen)
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"KONSTRUCT_LLM_POOL_LISTEN: cannot listen on {settings.llm_pool_listen} ({error.strerror}); "
            "choose another port"
        ) from None
    return listener


if __name__ == "__main__":
    run()
