"""A stranger who begins requests and never ends them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress


@contextmanager
def half_open(address: str, count: int) -> Iterator[None]:
    """Hold `count` connections to `address` (``host:port``), each with half a request, for the block."""
    host, _, port = address.rpartition(":")
    with ExitStack() as held:
        for _ in range(count):
            one = held.enter_context(socket.create_connection((host, int(port)), timeout=10))
            with suppress(OSError):  # it may have been ended already
                one.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
        yield
