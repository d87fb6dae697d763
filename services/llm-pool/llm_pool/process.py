"""One of several processes behind one port: ``python -m llm_pool.process LISTENER SLOT``.

Started by `llm_pool.processes`, and ends when that is gone.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys

from llm_pool.main import PoolServer, serve
from llm_pool.shared_values import take_slot
from shared.config import load_settings
from shared.logs import setup_logs
from shared.tracing import trace_ids


class Child(PoolServer):
    """A server that also stops when its parent does: its standard input ends then."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept."""
        await super().startup(sockets)
        asyncio.get_running_loop().add_reader(sys.stdin, self._parent_is_gone)

    def _parent_is_gone(self) -> None:
        asyncio.get_running_loop().remove_reader(sys.stdin)
        self.handle_exit(signal.SIGTERM, None)


def run() -> None:
    """Accept on the inherited listener until told to stop."""
    settings = load_settings()
    setup_logs(settings, "llm-pool", ids=trace_ids)
    listener, slot = map(int, sys.argv[1:])
    take_slot(slot)
    serve(settings, Child, [socket.socket(fileno=listener)])


if __name__ == "__main__":
    run()
