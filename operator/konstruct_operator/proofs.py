"""The proof that a revision is in effect: what each Agent still waits for, and the Leases that bring it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import NamedTuple

from konstruct_operator.status import Active
from konstruct_operator.workers import Sync, WorkerHealth, Workers
from shared.kube.leases import WorkerLease
from shared.kube.objects import AgentRef, Object
from shared.kube.watch import Change

log = logging.getLogger(__name__)

TICK_S = 1.0
"""Seconds between two looks at workers that have fallen silent."""

SETTLE_S = 2.0
"""Seconds for which an Agent that waits is not told of each worker that comes or goes."""


class Pointer(NamedTuple):
    """What an Agent's status points workers at, and since when."""

    uid: str
    """Identity of the Agent."""

    revision: str
    """Revision that has to be in effect."""

    tenant_id: str
    """Tenant that it has to be in effect for."""

    version: int
    """Resource version that workers must have applied."""


class Proofs:
    """Follows the workers' Leases (it is the sink of their Follower) and knows who waits for them."""

    def __init__(self, concerned: Callable[[AgentRef], None], lease_s: float) -> None:
        """`concerned` gets each Agent whose verdict may have changed; `lease_s`: see ``Workers``."""
        self.workers = Workers(lease_s)
        """The workers of this release."""
        self.complete = asyncio.Event()
        """Set once a complete list of Leases was taken in."""
        self._concerned = concerned
        self._longest_s = lease_s
        self._waiting: dict[AgentRef, Pointer] = {}
        self._untold: defaultdict[str, set[AgentRef]] = defaultdict(set)
        self._floors: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    async def replaced(self, objects: list[Object], resource_version: str) -> None:  # noqa: ARG002 - of Sink
        """Take in all Leases."""
        leases = [WorkerLease.of(item) for item in objects]
        self._note_durations(leases)
        self.workers.replaced(leases, time.monotonic())
        self.complete.set()
        self._tell_proven()

    async def changed(self, changes: list[Change], resource_version: str) -> None:  # noqa: ARG002 - of Sink
        """Take in changes of Leases."""
        now = time.monotonic()
        for change in changes:
            lease = WorkerLease.of(change.object)
            if change.type == "DELETED":
                self.workers.deleted(lease.name, now)
            else:
                self._note_durations((lease,))
                self.workers.put(lease, now)
        self._tell_proven()

    def expect(self, ref: AgentRef, uid: str, active: Active, version: int) -> None:
        """Note that an Agent was pointed at `active` by the write that returned `version`."""
        self._waiting[ref] = Pointer(uid, active.revision, active.tenant_id, version)
        self._untold[ref[0]].add(ref)
        # A worker may have been faster than the answer to the write.
        floor = self.workers.floor(ref[0], time.monotonic())
        if floor is not None and floor >= version:
            self._tell(ref)

    def known(self, ref: AgentRef, uid: str, active: Active) -> bool:
        """Whether this very revision is waited for already."""
        found = self._waiting.get(ref)
        return found is not None and found[:3] == (uid, active.revision, active.tenant_id)

    def health(self) -> Counter[WorkerHealth]:
        """Count the workers, by how they are doing."""
        return self.workers.health(time.monotonic())

    def settle(self, ref: AgentRef) -> None:
        """Note that an Agent waits for nothing."""
        if self._waiting.pop(ref, None) is not None:
            self._untold[ref[0]].discard(ref)

    def verdict(self, ref: AgentRef, uid: str, active: Active | None) -> Sync:
        """Say whether `active` is in effect on every worker, by what is known of its writing.

        One that is not is told again by the next Lease that speaks for it.
        """
        version = self._waiting[ref].version if active and self.known(ref, uid, active) else None
        revision = active.revision if active is not None else ""
        sync = self.workers.verdict(ref, revision, version, time.monotonic())
        if ref in self._waiting and not sync.done:
            self._untold[ref[0]].add(ref)
            self._floors.pop(ref[0], None)
        return sync

    async def run(self) -> None:
        """Tell everybody who waits when workers come, go, fall silent or refuse; until cancelled."""
        mood, all_known = self.workers.mood(time.monotonic()), False
        while True:
            await asyncio.sleep(TICK_S)
            before, all_known = all_known, self.workers.all_known(time.monotonic())
            if all_known and not before:
                log.info("proving: no worker is left that was not seen")
                self._tell_proven()
            now = self.workers.mood(time.monotonic())
            if now != mood:
                mood = now
                await asyncio.sleep(SETTLE_S)
                for ref in list(self._waiting):
                    self._concerned(ref)

    def _note_durations(self, leases: Iterable[WorkerLease]) -> None:
        """Warn of Leases that last longer than those of workers that are not seen are taken to last."""
        for lease in leases:
            if lease.duration_s > self._longest_s:
                self._longest_s = lease.duration_s
                log.warning(
                    "the Lease of worker %s lasts %g s; set the operator's KONSTRUCT_WORKER_LEASE_S to that: "
                    "it waits no longer for a worker that it cannot see",
                    lease.name,
                    lease.duration_s,
                )

    def _tell_proven(self) -> None:
        """Tell each that has its proof by now, once: ten thousand may be waiting for their turn already."""
        now = time.monotonic()
        for namespace, refs in self._untold.items():
            floor = self.workers.floor(namespace, now) if refs else None
            if floor is None or floor == self._floors.get(namespace):
                continue
            self._floors[namespace] = floor
            for ref in [ref for ref in refs if self._waiting[ref].version <= floor]:
                self._tell(ref)

    def _tell(self, ref: AgentRef) -> None:
        self._untold[ref[0]].discard(ref)
        self._concerned(ref)
