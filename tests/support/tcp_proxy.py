"""A TCP proxy that fails the way networks do: it swallows, refuses, or resets."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from enum import Enum
from typing import Self


class Mode(Enum):
    """What the proxy does."""

    PASS = "pass"
    """Everything goes through; what was swallowed before stays lost, and its connections with it."""
    BLACKHOLE = "blackhole"
    """Bytes and new connections are taken, and nothing comes back: a partition."""
    REFUSE = "refuse"
    """New connections end at once."""


class _Pair:
    """One client's connection and its other half."""

    def __init__(self, client: socket.socket) -> None:
        self.client = client
        self.server: socket.socket | None = None
        self.frozen = False
        self.ended = False

    def end(self, *, reset: bool = False) -> None:
        self.ended = True
        for end in (self.client, self.server):
            if end is not None:
                with contextlib.suppress(OSError):
                    if reset:
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    end.shutdown(socket.SHUT_RDWR)
                with contextlib.suppress(OSError):
                    end.close()


class TcpProxy:
    """Listens on a free port of loopback and passes on to `port`; a context manager."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._mode = Mode.PASS
        self._muted: bytes | None = None
        self._pairs: list[_Pair] = []
        self.count = 0
        """Connections that were taken so far."""
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, name="tcp-proxy", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.reset()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listener.getsockname()[1])

    def redirect(self, port: int) -> None:
        """Pass new connections on to another port, as a Service does whose Pods are replaced."""
        self._target = ("127.0.0.1", port)

    def set(self, mode: Mode) -> None:
        """Behave so from now on; in a blackhole, connections that are open now are lost for ever."""
        with self._lock:
            self._mode = mode
            if mode is Mode.BLACKHOLE:
                for pair in self._pairs:
                    pair.frozen = True

    def freeze(self) -> None:
        """Leave the connections that are open now half open: no byte, and no end, comes through any more."""
        with self._lock:
            for pair in self._pairs:
                pair.frozen = True

    def mute(self, word: bytes) -> None:
        """Leave each connection half open, now and later, as soon as its client says `word`."""
        self._muted = word

    def reset(self) -> None:
        """Reset every connection."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            pair.end(reset=True)

    def client_of(self, port: int) -> int | None:
        """Return the client's port of the connection that goes on from `port`."""
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            with contextlib.suppress(OSError):  # ended
                if pair.server is not None and pair.server.getsockname()[1] == port:
                    return int(pair.client.getpeername()[1])
        return None

    def reset_frozen(self) -> None:
        """Reset what is half open."""
        with self._lock:
            frozen = [pair for pair in self._pairs if pair.frozen]
            self._pairs = [pair for pair in self._pairs if not pair.frozen]
        for pair in frozen:
            pair.end(reset=True)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            pair = _Pair(client)
            self.count += 1
            with self._lock:
                mode = self._mode
                pair.frozen = mode is Mode.BLACKHOLE
                if mode is not Mode.REFUSE:
                    self._pairs.append(pair)
            if mode is Mode.REFUSE:
                pair.end(reset=True)
                continue
            if mode is Mode.PASS:
                try:
                    pair.server = socket.create_connection(self._target)
                except OSError:
                    pair.end(reset=True)
                    continue
                if pair.ended:  # reset in between
                    pair.end()
                    continue
                self._pump(pair, pair.server, client)
            self._pump(pair, client, pair.server)

    def _pump(self, pair: _Pair, source: socket.socket, sink: socket.socket | None) -> None:
        def run() -> None:
            with contextlib.suppress(OSError):
                while data := source.recv(65536):
                    if self._muted and source is pair.client and self._muted in data:
                        pair.frozen = True
                    if not pair.frozen and sink is not None:
                        sink.sendall(data)
            if pair.ended or not pair.frozen:
                pair.end()

        threading.Thread(target=run, daemon=True).start()
