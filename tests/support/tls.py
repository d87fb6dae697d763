"""TLS for tests: an authority, and what ends TLS in front of servers that were built without it."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from pathlib import Path
from typing import Self

import trustme

_SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
"""What a client of PostgreSQL says before it encrypts."""


class Authority:
    """A certificate authority, with its files in a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._ca = trustme.CA()
        self.ca_file = folder / "ca.crt"
        """Its own certificate."""
        self._ca.cert_pem.write_to_path(str(self.ca_file))

    def certify(self, name: str) -> tuple[Path, Path]:
        """Make a certificate for a host or a client, and its key, in place of the last."""
        made = self._ca.issue_cert(name)
        cert_file, key_file = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        for file, blob in ((key_file, made.private_key_pem), (cert_file, made.cert_chain_pems[0])):
            new = file.with_suffix(".new")
            blob.write_to_path(str(new))
            new.replace(file)
        return cert_file, key_file

    def serving(self, name: str, *, clients: bool = False) -> ssl.SSLContext:
        """Make the context of a server; with `clients` it wants certificates of its clients."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.certify(name))
        if clients:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.ca_file)
        return context


class TlsProxy:
    """Ends TLS on a free port of loopback and passes on to `port`; a context manager."""

    def __init__(self, port: int, context: ssl.SSLContext, *, postgresql: bool = False) -> None:
        self._target = port
        self._context = context
        self._postgresql = postgresql
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tls-proxy", daemon=True)
        self.port = 0
        """Where it listens."""

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _listen(self) -> None:
        context = None if self._postgresql else self._context
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _end(self) -> None:
        self._server.close()
        serving = asyncio.all_tasks() - {asyncio.current_task()}
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            if self._postgresql:
                if await reader.readexactly(len(_SSL_REQUEST)) != _SSL_REQUEST:
                    writer.close()  # nobody gets in who does not encrypt
                    return
                writer.write(b"S")
                await writer.drain()
                await writer.start_tls(self._context)
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._target)
            pumps = [_pump(reader, there_writer), _pump(there_reader, writer)]
            await asyncio.gather(*pumps)


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    finally:
        sink.close()
