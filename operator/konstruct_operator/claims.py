"""An operator's claim on each namespace that it serves: a Lease, so that two operators notice each other.

Whoever administers a namespace may write Leases there, so a claim in it decides about that namespace and
about nothing else: whatever it says, the operator runs on and serves the others.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from shared.kube.client import KubeClient
from shared.kube.errors import ConflictError, KubeError, NotFoundError
from shared.kube.names import (
    FIELD_MANAGER,
    MANAGED_BY_LABEL,
    OPERATOR_LEASE,
    lease_path,
    leases_path,
    role_path,
)
from shared.kube.objects import Object, micro_time

log = logging.getLogger(__name__)

DURATION_S = 60
"""Seconds after its last renewal for which a claim holds."""

RENEW_S = 20.0
"""Seconds between two renewals."""

RELEASE_S = 3.0
"""Longest that giving up the claims may hold up the end."""

RELEASERS = 16
"""Claims that are given up at once."""

LONGEST_DURATION_S = 600.0
"""Longest that a claim counts after its renewal, whatever it says itself."""

_LONGEST_HOLDER = 130
"""Characters of a holder that a message quotes: two names of 63, and what is between them."""


@dataclass(frozen=True, slots=True)
class RoleName:
    """The role by which an operator may serve namespaces."""

    name: str
    """Its name."""

    cluster_wide: bool
    """Whether it is a ClusterRole, or a Role of that name in each namespace."""

    @property
    def kind(self) -> str:
        """Its kind."""
        return "ClusterRole" if self.cluster_wide else "Role"

    def path(self, namespace: str) -> str:
        """Path of the role that holds in `namespace`."""
        return role_path(self.name, None if self.cluster_wide else namespace)


class Claims:
    """The namespaces that this operator has claimed, and those that are another's."""

    def __init__(
        self, client: KubeClient, holder: str, gained: Callable[[str], None], owner: RoleName | None = None
    ) -> None:
        """`owner` is the role that lets this operator serve: its claims go when it goes."""
        self._client = client
        self._holder = holder
        self._gained = gained
        self._owner = owner
        self._owners: dict[str, list[Object]] = {}
        self._held: dict[str, Object] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self.refused: dict[str, str] = {}
        """Namespaces that another serves, with its name."""

    async def serves(self, namespace: str) -> bool:
        """Whether this operator may serve `namespace`; claims it the first time."""
        if namespace in self._held:
            return True
        if namespace in self.refused:
            return False
        return await self.claim(namespace) is None

    async def claim(self, namespace: str) -> str | None:
        """Claim `namespace`; returns the other operator that has it, or None.

        Raises:
            KubeError: the claim can neither be made nor read.
        """
        async with self._locks.setdefault(namespace, asyncio.Lock()):
            if namespace in self._held:
                return None
            other = await self._claim(namespace)
        if other is None:
            if self.refused.pop(namespace, None) is not None:
                log.info("namespace %s is ours now", namespace)
                self._gained(namespace)
        elif self.refused.get(namespace) != other:
            self.refused[namespace] = other
            log.error("%s", served_message(namespace, other))
        return other

    def contested(self, home: str) -> set[str]:
        """Return the namespaces by which to tell whether this operator of the whole cluster can do its work.

        Those with Agents that it has, or those that it was refused; its own `home` alone says nothing.
        """
        return (self._held.keys() - {home}) or set(self.refused) or {home}

    async def run(self) -> None:
        """Renew until cancelled, and try again for what is another's."""
        while True:
            await asyncio.sleep(RENEW_S)
            for namespace in [*self._held, *self.refused]:
                try:
                    await self._renew(namespace)
                except KubeError as error:
                    log.warning("the claim on namespace %s: %s", namespace, error)

    async def release(self) -> None:
        """Give up every claim, as the last thing; what cannot be given up in time expires."""
        held = iter(list(self._held.items()))

        async def work() -> None:
            for namespace, claim in held:
                with suppress(KubeError):
                    path = lease_path(namespace, OPERATOR_LEASE)
                    await self._client.delete(path, uid=claim["metadata"]["uid"])

        with suppress(TimeoutError):
            async with asyncio.timeout(RELEASE_S):
                await asyncio.gather(*(work() for _ in range(RELEASERS)))
        self._held.clear()

    async def _renew(self, namespace: str) -> None:
        if namespace in self.refused:
            await self.claim(namespace)
            return
        try:
            self._held[namespace] = await self._write(namespace, self._held[namespace])
        except ConflictError:  # it was touched, or taken after we were away for too long
            del self._held[namespace]
            await self.claim(namespace)
        except NotFoundError:  # deleted, perhaps with its namespace
            del self._held[namespace]

    async def _claim(self, namespace: str) -> str | None:
        path = lease_path(namespace, OPERATOR_LEASE)
        try:
            self._owners[namespace] = await self._owner_of_claims(namespace)
            self._held[namespace] = await self._client.create(
                leases_path(namespace), self._manifest(namespace)
            )
        except ConflictError:
            found = await self._client.get(path)
            other = self._other(found)
            if other is not None:
                return other
            self._held[namespace] = await self._write(namespace, found)
        return None

    async def _write(self, namespace: str, known: Object) -> Object:
        manifest = self._manifest(namespace)
        # Only if nobody has written in between: of two operators one wins.
        manifest["metadata"]["resourceVersion"] = known["metadata"]["resourceVersion"]
        manifest["metadata"]["uid"] = known["metadata"]["uid"]
        return await self._client.apply(lease_path(namespace, OPERATOR_LEASE), manifest, FIELD_MANAGER)

    def _manifest(self, namespace: str) -> Object:
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": OPERATOR_LEASE,
                "namespace": namespace,
                "labels": {MANAGED_BY_LABEL: FIELD_MANAGER},
                "ownerReferences": self._owners.get(namespace, []),
            },
            "spec": {
                "holderIdentity": self._holder,
                "leaseDurationSeconds": DURATION_S,
                "renewTime": micro_time(datetime.now(UTC)),
            },
        }

    async def _owner_of_claims(self, namespace: str) -> list[Object]:
        """Refer to the role that goes when the release is uninstalled.

        Helm takes an operator's rights away while it is still shutting down, so it cannot be relied on to
        delete its claims itself. A cluster-wide role may own an object in any namespace.
        """
        if self._owner is None:
            return []
        try:
            role = await self._client.get(self._owner.path(namespace))
        except KubeError as error:
            log.warning("claims will stay when this release is uninstalled: %s", error)
            return []
        kind, metadata = self._owner.kind, role["metadata"]
        return [
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": kind,
                "name": metadata["name"],
                "uid": metadata["uid"],
            }
        ]

    def _other(self, claim: Object) -> str | None:
        """Return who else holds a claim that has not expired."""
        spec = claim.get("spec") or {}
        holder = spec.get("holderIdentity")
        if not holder or holder == self._holder:
            return None
        return str(holder) if _lasts(spec, datetime.now(UTC)) else None


def _lasts(spec: Object, now: datetime) -> bool:
    """Whether a claim that says this still holds.

    A time that cannot be read is none. One that is ahead counts as now: the other node's clock may be.
    """
    try:
        renewed = datetime.fromisoformat(spec["renewTime"]).astimezone(UTC)
        duration_s = float(spec["leaseDurationSeconds"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return False
    return (now - renewed).total_seconds() < min(duration_s, LONGEST_DURATION_S)


def served_message(namespace: str, other: str) -> str:
    """Say that `other` serves `namespace`."""
    owner_namespace, _, release = other[:_LONGEST_HOLDER].partition("/")
    return (
        f"namespace {namespace} is not served, the others are: it is claimed by the operator of release "
        f"{release} in namespace {owner_namespace}; uninstall that release, or have the two watch different "
        f"namespaces (watch.namespaces); if there is no such release, delete the Lease {OPERATOR_LEASE} there"
    )
