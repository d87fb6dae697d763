"""What every ``POST /complete`` passes first: token, size, load. Pure ASGI, before a body is read."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Iterable

from prometheus_client import Gauge
from starlette.types import ASGIApp, Receive, Scope, Send

from llm_pool.metrics import Metrics
from llm_pool.problems import problem
from shared.contract import ProblemCode

BODY_TIMEOUT_S = 15.0
"""Longest that a client may take to send its body."""

RETRY_AFTER_S = 1
"""What an overloaded pool puts into ``Retry-After``: places come free within about a reply's time."""

PATH = "/complete"
"""The guarded path."""


class Load:
    """How many completions are under way, and how many may be."""

    def __init__(self, limit: int, gauge: Gauge) -> None:
        self.limit = limit
        """How many may be."""
        self.under_way = 0
        """How many are."""
        self._gauge = gauge

    def is_full(self) -> bool:
        """Whether one more is too many."""
        return self.under_way >= self.limit

    def change(self, by: int) -> None:
        """Count one in or out."""
        self.under_way += by
        self._gauge.set(self.under_way)


class Gate:
    """Refuses what must not reach the application, and hands it the whole body as one message."""

    def __init__(
        self, app: ASGIApp, *, metrics: Metrics, load: Load, tokens: Iterable[str], max_body_bytes: int
    ) -> None:
        """Demand one of `tokens`; if there are none, anybody is let in."""
        self._app = app
        self._metrics = metrics
        self._tokens = [_digest(token.encode()) for token in tokens]
        self._max_body = max_body_bytes
        self._load = load

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event stream."""
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        admitted = await self._admit(scope, receive)
        if admitted is None:
            return  # the client went away while it was sending
        if isinstance(admitted, ProblemCode):
            self._metrics.refused(admitted)
            await self._answer(admitted)(scope, receive, send)
            return
        scope["konstruct.body"] = admitted
        self._load.change(1)
        try:
            await self._app(scope, receive, send)
        finally:
            self._load.change(-1)

    async def _admit(self, scope: Scope, receive: Receive) -> bytes | ProblemCode | None:
        """Return the body, why the request is refused, or none when the client went away."""
        if not self._authorised(scope):
            return ProblemCode.UNAUTHORIZED
        if self._load.is_full():
            return ProblemCode.OVERLOADED
        if _declared_length(scope) > self._max_body:
            return ProblemCode.TOO_LARGE
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                body = await self._read(receive)
        except TimeoutError:
            return ProblemCode.INVALID_REQUEST
        if body is not None and len(body) > self._max_body:
            return ProblemCode.TOO_LARGE
        if self._load.is_full():
            return ProblemCode.OVERLOADED
        return body

    def _authorised(self, scope: Scope) -> bool:
        if not self._tokens:
            return True
        for name, value in scope["headers"]:
            if name == b"authorization":
                scheme, _, token = value.partition(b" ")
                given = _digest(token.strip())
                # Every token, whichever it is, so that the time tells nothing.
                matches = [hmac.compare_digest(given, known) for known in self._tokens]
                return scheme.lower() == b"bearer" and any(matches)
        return False

    async def _read(self, receive: Receive) -> bytes | None:
        """Read the body, at most one message past the limit; none when the client went away."""
        message = await receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            body: bytes = message.get("body", b"")
            return body
        parts: list[bytes] = []
        size = 0
        while message["type"] == "http.request":
            part = message.get("body", b"")
            parts.append(part)
            size += len(part)
            if size > self._max_body or not message.get("more_body", False):
                return b"".join(parts)
            message = await receive()
        return None

    def _answer(self, code: ProblemCode) -> ASGIApp:
        match code:
            case ProblemCode.UNAUTHORIZED:
                detail = "Send the pool's token as 'Authorization: Bearer <token>'."
                return problem(code, detail, headers={"WWW-Authenticate": "Bearer"})
            case ProblemCode.OVERLOADED:
                detail = f"{self._load.limit} completions are under way. Try again shortly."
                return problem(code, detail, headers={"Retry-After": str(RETRY_AFTER_S)})
            case ProblemCode.TOO_LARGE:
                return problem(code, f"The body may have at most {self._max_body} bytes.")
            case _:
                detail = f"The body did not arrive within {BODY_TIMEOUT_S:.0f} seconds."
                return problem(code, detail, status=408, headers={"Connection": "close"})


def _digest(token: bytes) -> bytes:
    """Make tokens of one length: comparing two of different lengths takes another time."""
    return hashlib.sha256(token).digest()


def _declared_length(scope: Scope) -> int:
    """Return the Content-Length, 0 when there is none; what is really sent is counted anyway."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0
