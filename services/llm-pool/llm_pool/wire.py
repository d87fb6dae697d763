"""Connections of strangers: what is no HTTP, too much of it or too little, answered below the application.

uvicorn's protocol bounds neither a request's head nor the time that it may take, and nothing of it has been
checked when it comes: anybody who can reach the port can send it.
"""

from __future__ import annotations

import asyncio
import resource
from functools import cache
from typing import cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from llm_pool.problems import problem
from shared.contract import ProblemCode

MAX_HEAD_BYTES = 32 * 1024
"""Largest request line and headers; more is answered 431."""

HEAD_S = 10.0
"""Longest that they may take to arrive, counted from the connection or from their first byte."""

MAX_OVERHEAD_BYTES = 64 * 1024
"""Most bytes of a request that are neither head nor body: chunk sizes, their extensions, trailers."""

OVERHEAD_FACTOR = 8
"""Or so many times its body, whichever is more: a byte a chunk costs five more."""

MAX_CONNECTIONS = 4096
"""Most open connections of a process; no more than half of the files that it may open."""

PROBE_S = 0.25
"""Seconds between two looks at whether a client that sends no more still listens."""

_PHRASES = {
    400: b"Bad Request",
    408: b"Request Timeout",
    431: b"Request Header Fields Too Large",
    503: b"Service Unavailable",
}


@cache
def most_connections() -> int:
    """Return how many connections this process keeps open."""
    return min(MAX_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)


class PoolProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with bounds."""

    _head_timer: asyncio.TimerHandle | None = None
    _in_head = True
    _begun = False
    _head_bytes = 0
    _overhead_bytes = 0
    _body_bytes = 0
    _half_closed = False

    # --- connections ---

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection; where there are too many, the one that has been idle for longest goes."""
        super().connection_made(transport)
        self._await_head()
        if len(self.connections) > most_connections():
            others = cast("set[PoolProtocol]", self.connections) - {self}
            if idle := [one for one in others if one.idle]:
                min(idle, key=lambda one: one.since).transport.abort()
            else:
                self._refuse(503, "Too many connections are open. Try again shortly.")

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._stop_timer()
        super().connection_lost(exc)

    @property
    def idle(self) -> bool:
        """Whether no request is under way: none has come, its head is not complete, or it is answered."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is None or cycle.response_complete

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Answer a client that has said all it will, as long as it listens.

        Whether it does is seen when something is sent to it: an interim answer, which it may ignore.
        TLS has no half-closed connections.
        """
        waits = not self.idle and not self.cycle.more_body and self.scheme == "http"
        if not waits or self.scope["http_version"] != "1.1":
            return None
        self._half_closed = True
        self._probe()
        return True

    def on_response_complete(self) -> None:
        """Close what is half closed: no other request can come."""
        super().on_response_complete()
        if self._half_closed:
            self.transport.close()

    # --- bounds of a request ---

    def data_received(self, data: bytes) -> None:
        """Take bytes in, as far as they may be part of a request."""
        left = MAX_HEAD_BYTES - self._head_bytes
        if self._in_head and len(data) > left and not _ends_head(data[: max(left, 0)]):
            self._refuse(431, f"Request line and headers may have at most {MAX_HEAD_BYTES} bytes.")
            return
        self._begun = False
        super().data_received(data)
        if self.transport.is_closing():
            return
        if not self._in_head:
            self._overhead_bytes += len(data)
            if self._overhead_bytes - self._body_bytes > max(
                MAX_OVERHEAD_BYTES, OVERHEAD_FACTOR * self._body_bytes
            ):
                self._refuse(400, "The body has far more chunk sizes, extensions or trailers than content.")
        elif not self._begun:
            self._head_bytes += len(data)

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._begun = True
        if self._head_timer is None:
            self._await_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """End its head."""
        self._stop_timer()
        self._in_head, self._head_bytes, self._overhead_bytes, self._body_bytes = False, 0, 0, 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Count its body."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End it: what comes now is the next one's head."""
        self._in_head = True
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - inherited; parsers' words help nobody
        """Answer what cannot be parsed and close: nobody knows where the next request begins."""
        self._refuse(400, "This is no HTTP request that can be read.")

    # --- inside ---

    def _await_head(self) -> None:
        self.since = self.loop.time()
        self._head_timer = self.loop.call_later(HEAD_S, self._head_is_late)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self.idle:
            self._refuse(408, f"Request line and headers did not arrive within {HEAD_S:.0f} seconds.")

    def _probe(self) -> None:
        if self.transport.is_closing() or self.idle:
            return
        if not self.cycle.response_started:
            self.transport.write(b"HTTP/1.1 102 Processing\r\n\r\n")
        self.loop.call_later(PROBE_S, self._probe)

    def _refuse(self, status: int, detail: str) -> None:
        """Answer with a problem document, and close."""
        answer = problem(
            ProblemCode.INVALID_REQUEST if status < 500 else ProblemCode.OVERLOADED,
            detail,
            status=status,
            headers={"Connection": "close"},
        )
        head = [b"%s: %s\r\n" % header for header in answer.raw_headers]
        line = b"HTTP/1.1 %d %s\r\n" % (status, _PHRASES[status])
        self.transport.write(b"".join([line, *head, b"\r\n", bytes(answer.body)]))
        self.transport.close()


def _ends_head(data: bytes) -> bool:
    """Whether an empty line is in `data`."""
    return b"\n\r\n" in data or b"\n\n" in data
