"""Providers that hang, at the settings that Konstruct ships with: the fallback is asked in time.

The last test takes a minute: each hanging provider is waited for as long as the defaults say.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from konstruct_cli.stack.process import claim_port
from konstruct_cli.stack.services import LlmPool
from llm_pool.state import CONNECT_TIMEOUT_S
from shared.config import Settings
from shared.contract import FallbackReason
from shared.reply import MessageStatus
from tests.observability.stubs import Providers
from tests.support.providers import drip, hang
from tests.support.providers_pool import open_world
from tests.support.worker import Cell


@pytest.fixture
def providers() -> Iterator[Providers]:
    with Providers() as made:
        yield made


@pytest.fixture
def pool(providers: Providers, tmp_path: Path) -> Iterator[LlmPool]:
    environment = {"PATH": os.environ["PATH"], **providers.environment()}
    pool = LlmPool(environment, log=tmp_path / "llm-pool.log", port=claim_port("llm-pool", None))
    pool.launch()
    try:
        pool.wait_ready()
        yield pool
    finally:
        pool.stop()


@contextmanager
def never_finishing_tls() -> Iterator[str]:
    """Give the address of a server that takes connections and never says a word of TLS."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def never_accepting() -> Iterator[str]:
    """Give the address of a server whose queue of connections is full: a new one is not even made."""
    with ExitStack() as end:
        listener = end.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = listener.getsockname()
        for _ in range(8):
            waiting = end.enter_context(socket.socket())
            waiting.setblocking(False)
            with suppress(BlockingIOError):
                waiting.connect(address)
        yield f"http://127.0.0.1:{address[1]}"


async def test_who_never_finishes_to_connect_costs_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes ten seconds: five for each."""
    with never_finishing_tls() as anthropic, never_accepting() as openai:
        async with open_world(
            monkeypatch, anthropic_base_url=anthropic, openai_base_url=f"{openai}/v1"
        ) as world:
            reply = await world.pool.reply("quality")
    assert [attempt.outcome for attempt in reply.attempts] == ["unavailable", "unavailable", "ok"]
    assert all(attempt.ms < 1000 * (CONNECT_TIMEOUT_S + 3) for attempt in reply.attempts), reply.attempts


def test_when_both_providers_hang_the_fallback_answers_in_time(
    cell: Cell, providers: Providers, pool: LlmPool
) -> None:
    cell.start_worker(KONSTRUCT_LLM_POOL_URL=f"http://127.0.0.1:{pool.port}")
    providers.behave({"anthropic": drip(), "openai": hang()})
    first, later = cell.message("first"), cell.message("later")
    cell.submit(first)
    reply = cell.reply(first, within_s=Settings().message_deadline_s + 10)
    assert (reply.status, reply.reason) == (MessageStatus.ANSWERED, None)
    assert (reply.served_group, reply.degraded) == ("fast", True)
    assert reply.fallback_reason is FallbackReason.TIMEOUT
    began = time.monotonic()
    cell.submit(later)
    # Both are known to hang by now, and cool down.
    assert cell.reply(later).served_group == "fast"
    assert time.monotonic() - began < 10
