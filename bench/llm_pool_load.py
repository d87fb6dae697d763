"""A load generator that costs little: raw keep-alive connections, one request at a time on each.

Run as a process of its own: ``python bench/llm_pool_load.py PORT PATH BODY CONCURRENCY SECONDS``;
prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import cast

import uvloop

WARM_UP_S = 1.0
"""Load before the measured part."""


@dataclass(frozen=True)
class Load:
    """What one run saw."""

    served: int
    """Answers, those of the warm-up included; all 200."""

    requests: int
    """Answers in the measured part."""

    per_second: float
    """Answers per second."""

    median_ms: float
    """Median time from request to whole answer."""

    p99_ms: float
    """99th percentile of the same."""


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._buffer = b""
        self._answer: asyncio.Future[bytes] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class, of the same shape

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        found = head.find(b"content-length:")
        whole = end + 4 + int(head[found + 15 :].split(b"\r\n", 1)[0])
        if len(self._buffer) >= whole and self._answer is not None:
            answer, self._buffer = self._buffer[:whole], self._buffer[whole:]
            self._answer.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionError("the server closed the connection"))

    async def ask(self, request: bytes) -> bytes:
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer


async def load(port: int, path: str, body: str, concurrency: int, seconds: float) -> Load:
    """Load the server at `port` and measure.

    Raises:
        RuntimeError: an answer was not 200.
    """
    content = body.encode()
    head = f"POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n"
    request = f"{head}content-length: {len(content)}\r\n\r\n".encode() + content
    begin = perf_counter() + WARM_UP_S
    end = begin + seconds
    times: list[float] = []
    served = 0

    async def worker() -> None:
        nonlocal served
        _, connection = await asyncio.get_running_loop().create_connection(_Connection, "127.0.0.1", port)
        while (sent := perf_counter()) < end:
            answer = await connection.ask(request)
            if not answer.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(answer[:300].decode(errors="replace"))
            served += 1
            if begin <= sent:
                times.append(perf_counter() - sent)

    await asyncio.gather(*(worker() for _ in range(concurrency)))
    ordered = sorted(times)
    return Load(
        served=served,
        requests=len(ordered),
        per_second=len(ordered) / seconds,
        median_ms=statistics.median(ordered) * 1000,
        p99_ms=ordered[int(len(ordered) * 0.99)] * 1000,
    )


if __name__ == "__main__":
    _, port_, path_, body_, concurrency_, seconds_ = sys.argv
    print(json.dumps(asdict(uvloop.run(load(int(port_), path_, body_, int(concurrency_), float(seconds_))))))
