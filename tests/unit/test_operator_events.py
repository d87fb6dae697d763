"""Events: posted in the background; too many are dropped, and that is said once."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import Any

import pytest

from konstruct_operator.events import MAX_OF_ONE, POSTERS_OF_ONE, EventPoster, Notice
from shared.kube.client import KubeClient
from shared.kube.objects import Object, StoredAgent
from tests.support.waiting import until

ADA = StoredAgent.of(
    {
        "metadata": {
            "namespace": "acme",
            "name": "ada",
            "uid": "u-1",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "resourceVersion": "10",
        }
    }
)


class SlowClient(KubeClient):
    """Takes Events in only once it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may = asyncio.Event()
        self.posted: list[Any] = []

    async def create(self, path: str, manifest: Object, field_manager: str | None = None) -> Object:
        await self.may.wait()
        self.posted.append(manifest)
        return manifest


async def test_what_is_too_much_is_dropped_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    client = SlowClient()
    poster = EventPoster(client, "operator-0")
    running = asyncio.create_task(poster.run())
    for _ in range(POSTERS_OF_ONE):
        poster.post(ADA, Notice("Normal", "ConfigSynced", "under way"))
    await until(lambda: not poster._waiting)
    for number in range(MAX_OF_ONE + 50):
        poster.post(ADA, Notice("Normal", "ConfigSynced", f"{number}"))
    other = replace(ADA, namespace="globex")
    poster.post(other, Notice("Normal", "ConfigSynced", "another namespace's"))
    await until(lambda: not poster._waiting.waiting("globex"))  # it is under way, before all of those
    assert len(poster._waiting) == MAX_OF_ONE
    client.may.set()
    await until(lambda: len(client.posted) == MAX_OF_ONE + POSTERS_OF_ONE + 1 and "50 Events" in caplog.text)
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "too many Events wait; those about acme/ada and others are dropped",
        "50 Events were dropped",
    ]
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
