"""What the workers' Leases say: which workers there are, and who has what in effect. Pure.

Times are of the operator's own monotonic clock: a Lease is alive for its duration after the operator saw it
change, so no clock of a node is trusted. Every doubt counts against "synced".

A list shows no Lease that vanished before it, though its worker may answer for as long as it would have
lasted. So nothing is synced until that has passed. A watch shows everything, and in order: a Lease by which
a worker says that it is past a write comes after each Lease that was there before that write.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from shared.kube.leases import Refusal, WorkerLease
from shared.kube.objects import AgentRef, ConditionReason

NAMED = 3
"""Workers that a message names; the rest is a number."""


@dataclass(frozen=True, slots=True)
class Sync:
    """Whether every worker has a revision in effect."""

    status: str
    """``True``, ``False`` or ``Unknown``."""

    reason: ConditionReason
    """Why."""

    message: str
    """The same, for people."""

    @property
    def done(self) -> bool:
        """Whether every worker has it."""
        return self.status == "True"


class WorkerHealth(StrEnum):
    """How a worker is doing, as a label of a metric."""

    ALIVE = "alive"
    """It renews its Lease."""

    SILENT = "silent"
    """Its Lease has expired, or vanished without a farewell; it may still be answering."""


@dataclass(slots=True)
class _Worker:
    lease: WorkerLease
    heard: float
    vanished: bool = False


class Workers:
    """The workers of one release."""

    def __init__(self, lease_s: float) -> None:
        """`lease_s` is the duration of a Lease that was not seen; no worker's may be longer."""
        self._lease_s = lease_s
        self._all_known_from = math.inf
        self._workers: dict[str, _Worker] = {}

    def all_known(self, now: float) -> bool:
        """Whether no worker can be answering whose Lease vanished before the last complete list."""
        return now >= self._all_known_from

    def replaced(self, leases: Iterable[WorkerLease], now: float) -> None:
        """Take in a complete list."""
        listed = {lease.name: lease for lease in leases}
        for name in self._workers.keys() - listed.keys():
            self.deleted(name, now)
        for lease in listed.values():
            self.put(lease, now)
        self._all_known_from = now + self._lease_s

    def put(self, lease: WorkerLease, now: float) -> None:
        """Take in a Lease that was made or has changed."""
        if not lease.holder:  # it stopped cleanly: it answers no more
            self._workers.pop(lease.name, None)
            return
        known = self._workers.get(lease.name)
        if known is None or (known.lease.uid, known.lease.renewed) != (lease.uid, lease.renewed):
            self._workers[lease.name] = _Worker(lease, heard=now)
        else:
            known.lease, known.vanished = lease, False

    def deleted(self, name: str, now: float) -> None:
        """Take in that a Lease is gone.

        Its worker said no farewell, so it may run on, cut off, until its Lease would have expired: a Pod
        that was deleted by force does.
        """
        known = self._workers.get(name)
        if known is not None:
            known.vanished = True
            self.forget_expired(now)

    def forget_expired(self, now: float) -> None:
        """Forget workers whose Lease is gone and would have expired by now."""
        for name, worker in list(self._workers.items()):
            if worker.vanished and _expired(worker, now):
                del self._workers[name]

    def health(self, now: float) -> Counter[WorkerHealth]:
        """Count the workers."""
        self.forget_expired(now)
        return Counter(_health(worker, now) for worker in self._workers.values())

    def floor(self, namespace: str, now: float) -> int | None:
        """Resource version up to which every worker has applied `namespace`; None while that is not known."""
        self.forget_expired(now)
        if not self.all_known(now):
            return None
        seen = [
            None if _health(worker, now) is WorkerHealth.SILENT else worker.lease.state.seen_in(namespace)
            for worker in self._workers.values()
        ]
        known = [version for version in seen if version is not None]
        return min(known) if known and len(known) == len(seen) else None

    def mood(self, now: float) -> tuple[frozenset[str], frozenset[str], frozenset[Refusal]]:
        """All but progress that changes verdicts: who is there, who is silent, what is refused."""
        self.forget_expired(now)
        silent = {
            name for name, worker in self._workers.items() if _health(worker, now) is WorkerHealth.SILENT
        }
        refused = {item for worker in self._workers.values() for item in worker.lease.state.refused}
        return frozenset(self._workers), frozenset(silent), frozenset(refused)

    def verdict(self, ref: AgentRef, revision: str, version: int | None, now: float) -> Sync:
        """Say whether every worker has `revision` of an Agent in effect.

        `version` is the resource version that the write of the revision returned, None before the write.
        """
        self.forget_expired(now)
        workers = self._workers.values()
        total = len(workers)
        if not total:
            return Sync(
                "Unknown",
                ConditionReason.NO_WORKERS,
                "there is no worker; look at the worker Deployment of this release",
            )
        for worker in workers:
            refusal = worker.lease.state.refusal_of(ref, revision)
            if refusal is not None:
                return Sync(
                    "False",
                    ConditionReason.WORKER_REFUSED,
                    f"worker {worker.lease.name} refuses revision {revision}: {refusal.reason}",
                )
        silent = sorted(
            worker.lease.name for worker in workers if _health(worker, now) is WorkerHealth.SILENT
        )
        if silent:
            return Sync(
                "Unknown",
                ConditionReason.WORKER_SILENT,
                f"nothing is heard of {len(silent)} of {total} workers: {_named(silent)}; "
                "look at their Pods, or delete them",
            )
        late = sorted(
            worker.lease.name
            for worker in workers
            if version is None or not worker.lease.state.has_applied(ref[0], version)
        )
        all_known = self.all_known(now)
        if late or not all_known:
            message = f"revision {revision} is in effect on {total - len(late)}/{total} workers"
            message += f"; waiting for {_named(late)}" if late else ""
            if not all_known:
                message += f"; the workers were listed anew: one not seen may answer for {self._lease_s:g} s"
            return Sync("False", ConditionReason.WORKERS_PENDING, message)
        return Sync("True", ConditionReason.WORKERS_SYNCED, f"{total}/{total} workers")


def _expired(worker: _Worker, now: float) -> bool:
    return now >= worker.heard + worker.lease.duration_s


def _health(worker: _Worker, now: float) -> WorkerHealth:
    silent = worker.vanished or _expired(worker, now)
    return WorkerHealth.SILENT if silent else WorkerHealth.ALIVE


def _named(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
