"""Reading what an API server sends, with bounds: people of any tenant decide how long an object is."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp

from shared.kube.errors import TooLongError

LONGEST_PAGE = 16 * 2**20
"""Bytes of one page of a list. A page of rendered ConfigMaps has about 2 MiB."""

LONGEST_EVENT = 32 * 2**20
"""Bytes of one event of a watch.

The longest that etcd takes has 1.5 MiB, and JSON may need six bytes for each of them.
"""


async def whole(response: aiohttp.ClientResponse, longest: int) -> bytes:
    """Read an answer.

    Raises:
        TooLongError: it is longer than `longest`; nothing more is read of it.
    """
    read = bytearray()
    async for chunk in response.content.iter_any():
        read += chunk
        if len(read) > longest:
            response.close()
            raise TooLongError(f"an answer of more than {longest} bytes")
    return bytes(read)


async def lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Read lines of any length up to ``LONGEST_EVENT``; aiohttp's own end at the size of its buffer.

    Raises:
        TooLongError: one is longer.
    """
    begun = bytearray()
    async for chunk in content.iter_any():
        *ended, rest = chunk.split(b"\n")
        for part in ended:
            yield bytes(begun + part)
            begun.clear()
        begun += rest
        if len(begun) > LONGEST_EVENT:
            raise TooLongError(f"a line of more than {LONGEST_EVENT} bytes")
    if begun:
        yield bytes(begun)
