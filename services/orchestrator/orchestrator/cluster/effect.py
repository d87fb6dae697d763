"""Bringing the catalog in step with what the cluster's Agents ask for.

A revision that cannot be used is refused: the last good one stays, the refusal is told, and it is tried
again by itself. All of it runs on one event loop.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from orchestrator.agents.catalog import AgentCatalog, AgentKey, Missing, Problem
from orchestrator.cluster.claims import Claim, Claims
from orchestrator.cluster.documents import RefusedError, load
from shared.kube.client import KubeClient
from shared.kube.errors import KubeError
from shared.kube.leases import Refusal

log = logging.getLogger(__name__)

READERS = 16
"""Revisions that are read at once."""

FIRST_RETRY_S = 1.0
"""Seconds until a refused revision is tried again; they double with each try."""

LONGEST_RETRY_S = 30.0
"""Longest time between two tries."""

LOOK_S = 0.25
"""Seconds between two looks at which refused revisions are due."""

_REASON_LENGTH = 300


@dataclass(frozen=True, slots=True)
class Refused:
    """A revision that could not be put in effect."""

    claim: Claim
    """The Agent that asks for it."""

    reason: str
    """What is wrong with it."""

    tries: int
    """How often it was tried."""

    due: float
    """When it is tried again, by the monotonic clock."""


class Effect:
    """Keeps the catalog in step with the claims."""

    def __init__(
        self,
        client: KubeClient,
        catalog: AgentCatalog,
        *,
        in_effect: Callable[[float], None],
        told: Callable[[], None],
    ) -> None:
        """`in_effect` gets the seconds that each edit took; `told` is called when refusals change."""
        self._client = client
        self._catalog = catalog
        self._in_effect = in_effect
        self._told = told
        self._refused: dict[AgentKey, Refused] = {}
        self._origin: dict[AgentKey, str] = {}
        self.claims = Claims()
        """What the Agents ask for."""

    async def settle(self, keys: Iterable[AgentKey]) -> None:
        """Bring the entries of `keys` in step: applied, or refused.

        Raises:
            KubeError: the API server does not answer. Some of the entries may not be in step.
        """
        waiting = iter(list(keys))
        failures: list[KubeError] = []

        async def work() -> None:
            for key in waiting:
                try:
                    await self._settle(key)
                except KubeError as error:
                    failures.append(error)
                if failures:
                    return

        before = dict(self._refused)
        try:
            await asyncio.gather(*(work() for _ in range(READERS)))
        finally:
            if before != self._refused:
                self._tell()
        if failures:
            raise failures[0]

    async def retry(self) -> None:
        """Try refused revisions again when they are due, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            now = time.monotonic()
            due = [key for key, refused in self._refused.items() if refused.due <= now]
            if not due:
                continue
            try:
                await self.settle(due)
            except KubeError as error:
                log.info("refused revisions cannot be tried again now: %s", error)
                await asyncio.sleep(FIRST_RETRY_S)

    def refusals(self) -> list[Refusal]:
        """Return what is refused, in the order of names."""
        return [
            Refusal(
                namespace=refused.claim.namespace,
                name=refused.claim.key[1],
                revision=refused.claim.revision,
                reason=refused.reason[:_REASON_LENGTH],
            )
            for _, refused in sorted(self._refused.items())
        ]

    async def _settle(self, key: AgentKey) -> None:
        """Bring one entry in step, with whatever is chosen when that is done."""
        while (claim := self.claims.chosen(key)) is not None:
            if self._in_step(claim):
                return
            try:
                agent = await load(self._client, claim)
            except RefusedError as error:
                if self.claims.chosen(key) is claim:
                    self._refuse(claim, str(error))
                    return
                continue
            if self.claims.chosen(key) is claim:
                self._catalog.put(key, agent)
                self._observe(claim)
        self._catalog.remove(key)
        self._origin.pop(key, None)
        self._refused.pop(key, None)

    def _in_step(self, claim: Claim) -> bool:
        """Do what needs no documents; whether that was all."""
        key = claim.key
        served = self._catalog.find(*key)
        if served is None:
            return False
        if served.suspended != claim.suspended:
            self._catalog.put(key, replace(served, suspended=claim.suspended))
        if served.revision != claim.revision:
            return False
        self._origin[key] = claim.uid
        self._refused.pop(key, None)
        return True

    def _observe(self, claim: Claim) -> None:
        """Report how long an edit took; a new agent may have waited for its tenant first."""
        if claim.observed is not None and self._origin.get(claim.key) == claim.uid:
            lag_s = max((datetime.now(UTC) - claim.observed).total_seconds(), 0.0)
            self._in_effect(lag_s)
            log.info("Agent %s/%s: revision %s is in effect, after %.3f s", *claim.ref, claim.revision, lag_s)

    def _refuse(self, claim: Claim, reason: str) -> None:
        key, before = claim.key, self._refused.get(claim.key)
        tries = 1
        if before and (before.claim.uid, before.claim.revision) == (claim.uid, claim.revision):
            tries = before.tries + 1
        else:
            log.warning("Agent %s/%s, revision %s: %s", *claim.ref, claim.revision, reason)
        wait = min(FIRST_RETRY_S * 2.0 ** min(tries - 1, 10), LONGEST_RETRY_S) * random.uniform(0.75, 1)  # noqa: S311 - no secret
        self._refused[key] = Refused(claim, reason, tries, time.monotonic() + wait)
        if self._catalog.find(*key) is None or self._origin.get(key) != claim.uid:
            # What another Agent of this name said before is not this one's last good revision.
            self._origin.pop(key, None)
            self._catalog.remove(key, Missing.SUSPENDED if claim.suspended else Missing.NOT_YET)

    def _tell(self) -> None:
        problems = []
        for key, refused in sorted(self._refused.items()):
            served = self._catalog.find(*key)
            if served is not None:
                then = f"revision {served.revision} stays in effect"
            else:
                then = "it is suspended" if refused.claim.suspended else "its messages wait"
            problems.append(
                Problem(
                    "/".join(refused.claim.ref),
                    f"revision {refused.claim.revision} is refused: {refused.reason}; {then}",
                )
            )
        self._catalog.problems = tuple(problems)
        self._told()
