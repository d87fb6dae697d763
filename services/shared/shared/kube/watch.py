"""One list+watch loop, for any collection: survives whatever a watch can die of.

A dropped or half-open connection goes on from the last resource version; a version that is too old
(410) and a sink that failed lead to a new list. Delays are jittered, so that many workers do not come
back at once.

``kubernetes.informer`` cannot serve custom resources, asks for no bookmarks and sets no read timeout.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from dataclasses import dataclass
from typing import Protocol

from shared.kube.client import KubeClient, Slim, without_managed_fields
from shared.kube.errors import ExpiredError, KubeError, UnreachableError
from shared.kube.objects import Object

log = logging.getLogger(__name__)

QUEUE = 1000
"""Events read ahead of the sink; more wait in the connection."""


PATIENCE = 5
"""Failures in a row after which the collection is listed anew."""


@dataclass(frozen=True, slots=True)
class Change:
    """One event of a watch."""

    type: str
    """``ADDED``, ``MODIFIED``, ``DELETED`` or ``BOOKMARK``."""

    object: Object
    """The object after the change (before it, when deleted; only its resource version, in a bookmark)."""


class Sink(Protocol):
    """What takes in a collection. Calls come one at a time, in order."""

    async def replaced(self, objects: list[Object], resource_version: str) -> None:
        """Take in a complete list: what is not in it is gone."""

    async def changed(self, changes: list[Change], resource_version: str) -> None:
        """Take in changes, oldest first; all events up to `resource_version` have now been given."""


class Follower:
    """Follows one collection and gives everything to a sink."""

    def __init__(
        self,
        client: KubeClient,
        path: str,
        sink: Sink,
        *,
        label_selector: str | None = None,
        slim: Slim = without_managed_fields,
    ) -> None:
        """`slim` leaves of each object what the sink needs: people decide how long one is."""
        self._client = client
        self._path = path
        self._sink = sink
        self._selector = label_selector
        self._slim = slim
        self._version: str | None = None
        self._failures = 0
        self.connected = False
        """Whether changes are being followed at present."""
        self.problem: KubeError | None = None
        """What went wrong last; None since something was taken in."""

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            try:
                if self._version is None:
                    objects, version = await self._client.list(
                        self._path, label_selector=self._selector, slim=self._slim
                    )
                    await self._sink.replaced(objects, version)
                    self._version = version
                    self.problem = None
                await self._watch(self._version)
            except ExpiredError as error:
                log.info("%s: listing anew (%s)", self._path, error)
                self._version = None
                self._failures += 1
            except KubeError as error:
                self._failures += 1
                self.problem = error
                if self._failures >= PATIENCE:
                    # A restored etcd may never reach this version again.
                    self._version = None
                log.warning("%s: %s", self._path, error)
            except Exception:
                # The sink's own fault: what it holds may be incomplete, so it gets everything anew.
                log.exception("%s: cannot take in a change", self._path)
                self._version = None
                self._failures += 1
            # A watch that the API server has ended, as it does every few seconds, is no interruption.
            self.connected = self.connected and not self._failures
            await asyncio.sleep(random.uniform(0, _longest_delay_s(self._failures)))  # noqa: S311 - no secret

    async def _watch(self, version: str) -> None:
        """Give events to the sink, as many at a time as have come; ends when the API server ends it."""
        events = await self._client.watch(self._path, version, label_selector=self._selector, slim=self._slim)
        queue: asyncio.Queue[Change | None] = asyncio.Queue(QUEUE)
        self.connected = True

        async def read() -> None:
            try:
                async for kind, item in events:
                    await queue.put(Change(kind, item))
            except Exception:
                await queue.put(None)  # nobody waits for more
                raise
            await queue.put(None)

        reader = asyncio.create_task(read())
        try:
            ended = False
            while not ended:
                changes, ended = await _drain(queue)
                if changes:
                    newest = str(changes[-1].object["metadata"]["resourceVersion"])
                    real = [change for change in changes if change.type != "BOOKMARK"]
                    await self._sink.changed(real, newest)
                    self._version = newest
                    self._failures = 0
                    self.problem = None
            self._failures = 0
        finally:
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reader


async def _drain(queue: asyncio.Queue[Change | None]) -> tuple[list[Change], bool]:
    """Wait for one event and take it with all that have come meanwhile; True at the end of the watch."""
    changes: list[Change] = []
    item = await queue.get()
    while item is not None:
        changes.append(item)
        if queue.empty():
            return changes, False
        item = queue.get_nowait()
    return changes, True


def _longest_delay_s(failures: int) -> float:
    """Bound of the delay before the next try, doubling with each failure in a row."""
    if failures == 0:
        return 0.1
    return min(UnreachableError.first_delay_s * 2.0 ** min(failures, 10), UnreachableError.longest_delay_s)
