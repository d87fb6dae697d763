"""The worker's Lease: renewed in time, rewritten when there is more to tell, released at the end."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from orchestrator.gate import Gate
from shared.config import ConfigurationError, Settings
from shared.kube.client import KubeClient
from shared.kube.errors import KubeError, NotFoundError
from shared.kube.leases import WorkerState, lease_manifest
from shared.kube.names import WORKER_FIELD_MANAGER, lease_path

log = logging.getLogger(__name__)

SPACING_S = 0.26
"""Least time between two writes: never more than four in a second."""

RETRY_S = 1.0
"""Longest time until a failed renewal is tried again."""

RELEASE_S = 3.0
"""Longest that releasing the Lease may hold up the end of the worker."""


class LeaseKeeper:
    """Keeps one Lease."""

    def __init__(
        self,
        settings: Settings,
        gate: Gate,
        state: Callable[[], WorkerState],
        relist: Callable[[], None],
    ) -> None:
        """`state` is what the Lease tells; `relist` is called when the agents must be listed anew.

        Raises:
            ConfigurationError: it is not known whose Lease it would be.
        """
        if settings.pod_name is None or settings.pod_namespace is None:
            raise ConfigurationError(
                "this worker does not know where its agents come from: set KONSTRUCT_AGENTS_DIR to a folder "
                "of Agent manifests or, to serve the Agents of a cluster, KONSTRUCT_POD_NAME and "
                "KONSTRUCT_POD_NAMESPACE to the name and namespace of the worker's Pod (the chart does)"
            )
        self._settings = settings
        self._name, self._namespace = settings.pod_name, settings.pod_namespace
        self._gate = gate
        self._state = state
        self._relist = relist
        self._changed = asyncio.Event()
        self._failure: str | None = None

    def changed(self) -> None:
        """Note that there is something new to tell."""
        self._changed.set()

    async def run(self, client: KubeClient) -> None:
        """Renew until cancelled."""
        pause_s = self._settings.worker_lease_s / 3
        while True:
            self._changed.clear()
            sent = time.monotonic()
            if await self._renew(client, within_s=pause_s):
                if self._gate.renewed(sent):
                    self._relist()
                await asyncio.sleep(max(sent + SPACING_S - time.monotonic(), 0))
                try:
                    async with asyncio.timeout(max(sent + pause_s - time.monotonic(), 0)):
                        await self._changed.wait()
                except TimeoutError:
                    pass
            else:
                await asyncio.sleep(random.uniform(RETRY_S / 2, RETRY_S))  # noqa: S311 - no secret

    async def release(self, client: KubeClient) -> None:
        """Say that the worker has stopped, so that nobody waits for it, and delete the Lease."""
        path = lease_path(self._namespace, self._name)
        try:
            async with asyncio.timeout(RELEASE_S):
                await client.apply(path, self._manifest(released=True), WORKER_FIELD_MANAGER)
                await client.delete(path)
        except NotFoundError:
            pass
        except (KubeError, TimeoutError) as error:
            log.warning("the Lease %s could not be released and will expire: %s", self._name, error)

    async def _renew(self, client: KubeClient, within_s: float) -> bool:
        try:
            async with asyncio.timeout(within_s):
                await client.apply(
                    lease_path(self._namespace, self._name), self._manifest(), WORKER_FIELD_MANAGER
                )
        except (KubeError, TimeoutError) as error:
            failure = str(error) or "no answer in time"
            if failure != self._failure:
                log.warning("the Lease %s cannot be renewed: %s", self._name, failure)
            self._failure = failure
            return False
        if self._failure is not None:
            log.info("the Lease %s is renewed again", self._name)
        self._failure = None
        return True

    def _manifest(self, *, released: bool = False) -> dict[str, Any]:
        return lease_manifest(
            name=self._name,
            namespace=self._namespace,
            pod_uid=self._settings.pod_uid,
            release=self._settings.release,
            duration_s=self._settings.worker_lease_s,
            renewed=datetime.now(UTC),
            state=self._state(),
            released=released,
        )
