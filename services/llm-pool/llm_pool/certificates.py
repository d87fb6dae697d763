"""The certificate that the pool serves HTTPS by, read again when it changes: a renewal needs no restart."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path

log = logging.getLogger(__name__)

LOOK_EVERY_S = 5.0
"""Seconds between two looks at the files."""


async def keep_fresh(context: ssl.SSLContext, cert_file: Path, key_file: Path | None) -> None:
    """Give `context` the certificate anew whenever its files have changed, for ever.

    Connections that are open keep theirs. While the files do not belong together, as in the middle of a
    renewal, the last certificate stays.
    """
    files = [file for file in (cert_file, key_file) if file is not None]
    seen = _versions(files)
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        now = _versions(files)
        if now == seen:
            continue
        try:
            # Tried out elsewhere: half a pair would be taken, and no connection made.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert_file, key_file)
            context.load_cert_chain(cert_file, key_file)
        except OSError as error:
            log.warning("the certificate has changed and cannot be used: %s", type(error).__name__)
        else:
            seen = now
            log.info("the certificate was read again")


def _versions(files: list[Path]) -> list[tuple[int, int] | None]:
    """Tell one content of the files from another; a mounted Secret changes by a link."""
    found: list[tuple[int, int] | None] = []
    for file in files:
        try:
            status = file.stat()
        except OSError:
            found.append(None)
        else:
            found.append((status.st_mtime_ns, status.st_ino))
    return found
