"""A local server that speaks the llm-pool's contract, for tests of what is in front of the pool."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from shared.contract import CompletionRequest, CompletionResponse

Answer = Callable[["StubPool", "Exchange"], None]


@dataclass
class Exchange:
    """One request, and the means to answer it."""

    handler: BaseHTTPRequestHandler
    body: bytes

    @property
    def request(self) -> CompletionRequest:
        return CompletionRequest.model_validate_json(self.body)

    def send(self, status: int, body: bytes, content_type: str = "application/json", **headers: str) -> None:
        self.handler.send_response(status)
        for name, value in headers.items():
            self.handler.send_header(name.replace("_", "-"), value)
        self.handler.send_header("content-type", content_type)
        self.handler.send_header("content-length", str(len(body)))
        self.handler.end_headers()
        self.handler.wfile.write(body)


def envelope(content: str, **changes: Any) -> dict[str, Any]:
    """Build a valid envelope."""
    return CompletionResponse.model_validate(
        {
            "content": content,
            "model": "stub-1",
            "requested_group": "quality",
            "served_group": "quality",
            "degraded": False,
            "fallback_reason": None,
            "attempts": [{"deployment": "stub/stub-1", "group": "quality", "outcome": "ok", "ms": 1.5}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 3},
            "cost_usd": 0.0001,
            "latency_ms": 2.0,
            **changes,
        }
    ).model_dump(mode="json")


def echo(pool: StubPool, exchange: Exchange) -> None:
    """Answer with the last thing the user said."""
    text = exchange.request.messages[-1].content
    exchange.send(200, json.dumps(envelope(f"You said: {text}")).encode())


@dataclass
class StubPool:
    """The server; set `answer` to change what it does. Requests wait while the gate is closed."""

    server: ThreadingHTTPServer
    answer: Answer = echo
    requests: list[CompletionRequest] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    waiting: int = 0
    headers: list[dict[str, str]] = field(default_factory=list)
    ports: set[int] = field(default_factory=set)
    ready: bool = True
    probes: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def seen(self) -> list[str]:
        """What users said, in the order of arrival."""
        return [request.messages[-1].content for request in self.requests]


@contextmanager
def running_stub_pool(port: int = 0) -> Iterator[StubPool]:
    """Run a stub llm-pool, on a free port unless one is given."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            exchange = Exchange(self, body)
            pool.requests.append(exchange.request)
            pool.headers.append({name.lower(): value for name, value in self.headers.items()})
            pool.ports.add(self.client_address[1])
            pool.waiting += 1
            pool.gate.wait(60)
            pool.waiting -= 1
            try:
                pool.answer(pool, exchange)
            except OSError:
                self.close_connection = True  # the client is gone

        def do_GET(self) -> None:
            pool.probes += 1
            Exchange(self, b"").send(200 if pool.ready else 503, b"ready or not\n", "text/plain")

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - inherited
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 256

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # a client that went away is what some tests are about

    pool = StubPool(Server(("127.0.0.1", port), Handler))
    pool.gate.set()
    thread = threading.Thread(target=pool.server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield pool
    finally:
        pool.gate.set()
        pool.server.shutdown()
        pool.server.server_close()
        thread.join(timeout=5)


@pytest.fixture
def stub_pool() -> Iterator[StubPool]:
    """Run a stub llm-pool on a free port."""
    with running_stub_pool() as pool:
        yield pool
