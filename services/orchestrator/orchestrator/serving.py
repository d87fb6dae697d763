"""The worker's HTTP: ``/metrics`` for Prometheus, ``/healthz`` for liveness, ``/readyz`` for readiness.

Neither probe fails because PostgreSQL or Redis is away, but that a worker is not ready before it has reached
both once. A worker that is away from the Kubernetes API is alive, and not ready once its Lease has run out.
"""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app

from shared.config import ConfigurationError
from shared.net import host_and_port

if TYPE_CHECKING:
    from orchestrator.runtime import Runtime


_OK = "200 OK"
_UNAVAILABLE = "503 Service Unavailable"


MOST_CONNECTIONS = 64
"""Connections that are open at once, each with a thread; for one more the oldest is ended."""

SILENT_S = 10.0
"""Longest that a connection may be silent before its request is complete, or that a reader may wait."""


class _Server(ThreadingMixIn, WSGIServer):
    """One thread per connection: a slow reader holds up no probe, and whoever holds many keeps nobody out."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *arguments: Any) -> None:
        self._open: dict[socket.socket, None] = {}
        self._lock = threading.Lock()
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection."""
        with self._lock:
            if len(self._open) >= MOST_CONNECTIONS:
                oldest = next(iter(self._open))
                del self._open[oldest]
                with suppress(OSError):
                    oldest.shutdown(socket.SHUT_RDWR)  # its thread reads the end, and closes it
            self._open[request] = None
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """End a connection."""
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that went away, or was sent away."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Quiet(WSGIRequestHandler):
    """Does not log each scrape."""

    timeout = SILENT_S

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is inherited
        pass


class StatusServer:
    """Serves the worker's status on `listen` (``host:port``)."""

    def __init__(self, listen: str, runtime: Runtime) -> None:
        self._runtime = runtime
        self._metrics = make_wsgi_app(runtime.metrics.registry)
        host, port = host_and_port(listen)
        try:
            self._server = make_server(host, port, self._answer, _Server, _Quiet)
        except OSError as error:
            raise ConfigurationError(
                f"KONSTRUCT_WORKER_LISTEN: cannot listen on {listen} ({error.strerror}); choose another port"
            ) from None
        self._thread = threading.Thread(target=self._server.serve_forever, name="status", daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO")
        if path == "/metrics":
            body: Iterable[bytes] = self._metrics(environ, start)
            return body
        status, text = self._probe(path)
        start(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [text.encode() + b"\n"]

    def _probe(self, path: str | None) -> tuple[str, str]:
        if path == "/healthz":
            if self._runtime.hearing.deaf:
                return _UNAVAILABLE, "messages wait, and this worker hears none of them"
            return _OK, "ok"
        if path == "/readyz":
            if self._runtime.running.draining:
                return _UNAVAILABLE, "shutting down"
            if missing := self._runtime.reaching.missing:
                return _UNAVAILABLE, f"{missing} has not been reached yet"
            if not self._runtime.accepting:
                return _UNAVAILABLE, "the agents are not loaded, or may be out of date: no messages are taken"
            return _OK, "ok"
        return "404 Not Found", "/metrics, /healthz and /readyz are served here"
