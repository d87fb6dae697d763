"""A stub provider that serves from a thread, for tests of processes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.providers import StubProvider


@contextmanager
def provider_in_thread(protocol: str, model: str) -> Iterator[StubProvider]:
    """Serve a stub provider while the block runs."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    provider = StubProvider(protocol, model)
    asyncio.run_coroutine_threadsafe(provider.up(), loop).result(10)
    try:
        yield provider
    finally:
        asyncio.run_coroutine_threadsafe(_end(provider), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _end(provider: StubProvider) -> None:
    await provider.down()
    serving = asyncio.all_tasks() - {asyncio.current_task()}
    if serving:
        await asyncio.wait(serving, timeout=5)
