"""Providers that hang, at the settings that Konstruct ships with: the fallback is asked in time.

The first test takes a minute: each hanging provider is waited for as long as the defaults say.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from konstruct_cli.stack.process import claim_port
from konstruct_cli.stack.services import LlmPool
from shared.config import Settings
from shared.contract import FallbackReason
from shared.reply import MessageStatus
from tests.observability.stubs import Providers
from tests.support.providers import drip, hang
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
