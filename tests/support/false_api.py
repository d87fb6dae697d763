"""Something in the API server's place: it says what it is told to, or hands on to the true one."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.support.cluster import write_kubeconfig

Say = Callable[[str, Message, bytes], tuple[int, bytes] | None]
"""Given path, headers and body of a request, status and body of its answer; None: the true one answers."""

_CHUNK = 65_536


class FalseApi:
    """Listens on a free port of loopback, without TLS."""

    def __init__(self, server: ThreadingHTTPServer, true: str) -> None:
        self._server = server
        self._true = true.removeprefix("https://")
        self._open: set[socket.socket] = set()
        self.say: Say = lambda *_: None
        """What is answered."""

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def kubeconfig(self, path: Path, token: str = "token-of-nobody") -> Path:
        """Write a kubeconfig for it."""
        write_kubeconfig(path, {"server": self.url}, "someone", token)
        return path

    def always(self, body: Any, status: int = 200) -> None:
        """Answer everything with one body: bytes as they are, all else as JSON."""
        said = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.say = lambda *_: (status, said)

    def interrupt(self) -> None:
        """End every connection."""
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        body = request.rfile.read(int(request.headers.get("content-length", 0)))
        headers = request.headers
        self._open.add(request.connection)
        try:
            with contextlib.suppress(OSError, http.client.HTTPException):
                answer = self.say(request.path, headers, body)
                if answer is None:
                    self._hand_on(request, headers, body)
                else:
                    _begin(request, answer[0])
                    request.wfile.write(answer[1])
        finally:
            self._open.discard(request.connection)

    def _hand_on(self, request: BaseHTTPRequestHandler, headers: Message, body: bytes) -> None:
        # Whose it is does not matter here: the programs under test check it on every other way.
        trust = ssl._create_unverified_context()
        true = http.client.HTTPSConnection(self._true, context=trust)
        with contextlib.closing(true):
            kept = {name: value for name, value in headers.items() if name.lower() != "accept-encoding"}
            true.request(request.command, request.path, body or None, kept)
            answer = true.getresponse()
            _begin(request, answer.status, answer.headers.get("content-type", "application/json"))
            while part := answer.read1(_CHUNK):
                request.wfile.write(part)
                request.wfile.flush()


def _begin(request: BaseHTTPRequestHandler, status: int, kind: str = "application/json") -> None:
    request.send_response_only(status)
    request.send_header("content-type", kind)
    request.send_header("connection", "close")
    request.end_headers()


@contextmanager
def false_api(true: str = "") -> Iterator[FalseApi]:
    """Run one, in front of the API server at `true` if that is given."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        close_connection = True

        def handle_one(self) -> None:
            made.handle(self)
            self.close_connection = True

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = handle_one  # noqa: N815 - names are given

        def log_message(self, *_: object) -> None:
            """Nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as server:
        made = FalseApi(server, true)
        threading.Thread(target=server.serve_forever, name="false-api", daemon=True).start()
        try:
            yield made
        finally:
            server.shutdown()
            made.interrupt()
