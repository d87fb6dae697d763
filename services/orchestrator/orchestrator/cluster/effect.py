"""Bringing the catalog in step with what the cluster's Agents ask for.

A revision that cannot be used is refused: the last good one stays, the refusal is told, and it is tried
again by itself. Tenants take turns, and nobody waits for what another's documents are held up by. All of
it runs on one event loop.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from orchestrator.agents.catalog import AgentCatalog, AgentKey, Missing, Problem, ServedAgent
from orchestrator.cluster.claims import Claim, Claims
from orchestrator.cluster.documents import RefusedError, load
from shared.kube.client import KubeClient
from shared.kube.errors import KubeError
from shared.kube.leases import Refusal
from shared.turns import Turns

log = logging.getLogger(__name__)

READERS = 16
"""Revisions that are read at once."""

MOST_OF_ONE = 12
"""Those of one tenant: whatever holds them up, there is room for others."""

READ_S = 5.0
"""Seconds after which a revision that is not read is refused for now."""

HOPELESS = 3
"""Unanswered reads of one tenant, one after the other, after which the next are not tried for so long."""

FIRST_RETRY_S = 1.0
"""Seconds until a refused revision is tried again; they double with each try."""

LONGEST_RETRY_S = 30.0
"""Longest time between two tries."""

LOOK_S = 0.25
"""Seconds between two looks at which refused revisions are due."""

_REASON_LENGTH = 300


class UnansweredError(RefusedError):
    """The API server does not answer for a revision: nothing is known of it."""


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

    unanswered: bool
    """Whether the API server did not answer, so that nothing is known of it."""


class Effect:
    """Keeps the catalog in step with the claims."""

    def __init__(
        self,
        client: KubeClient,
        catalog: AgentCatalog,
        *,
        in_effect: Callable[[float], None],
        told: Callable[[], None],
        settled: Callable[[AgentKey], None],
    ) -> None:
        """`in_effect` gets the seconds that each edit took; `told` is called when refusals change.

        `settled` gets each entry that documents were read for, once it is applied or refused.
        """
        self._client = client
        self._catalog = catalog
        self._in_effect = in_effect
        self._told = told
        self._settled = settled
        self._turns: Turns[AgentKey] = Turns(lambda key: key[0], MOST_OF_ONE)
        self._running: set[AgentKey] = set()
        self._strict: set[AgentKey] = set()
        self._unanswered: dict[str, tuple[int, float]] = {}
        self._untold = asyncio.Event()
        self._refused: dict[AgentKey, Refused] = {}
        self._origin: dict[AgentKey, str] = {}
        self.claims = Claims()
        """What the Agents ask for."""

    def want(self, keys: Iterable[AgentKey], *, strict: bool = False) -> set[AgentKey]:
        """Have the entries of `keys` brought in step; returns those for which documents are read first.

        Each of these is told to `settled` once it is applied or refused. `strict`: what is served of them
        may have been called gone already, so it goes when it cannot be told what should be served.
        """
        late = {
            key for key in keys if not self._settle_at_once(key) and (strict or not self._is_put_off(key))
        }
        if strict:
            self._strict |= late
        for key in late - self._running:  # one that is under way looks again before it ends
            self._turns.add(key)
        return late

    async def run(self) -> None:
        """Read documents, and try refused revisions again when they are due, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(READERS):
                group.create_task(self._read(), name=f"documents-{number}")
            group.create_task(self._retry())
            group.create_task(self._tell())

    async def _read(self) -> None:
        while True:
            key = await self._turns.take()
            self._running.add(key)
            try:
                await self._settle(key)
            finally:
                self._running.discard(key)
                self._turns.done(key)
            self._settled(key)

    async def _retry(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            now = time.monotonic()
            self.want([key for key, refused in self._refused.items() if refused.due <= now])

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
        while not self._settle_at_once(key):
            claim = self.claims.chosen(key)
            assert claim is not None
            try:
                agent = await self._load(claim)
            except RefusedError as error:
                if self.claims.chosen(key) is claim:
                    if isinstance(error, UnansweredError) and key in self._strict:
                        self._catalog.remove(key)
                    self._refuse(claim, str(error), unanswered=isinstance(error, UnansweredError))
                    self._strict.discard(key)
                    return
                continue
            if self.claims.chosen(key) is claim:
                self._catalog.put(key, agent)
                self._observe(claim)

    def _settle_at_once(self, key: AgentKey) -> bool:
        """Do what needs no documents; whether that was all."""
        claim = self.claims.chosen(key)
        if claim is None:
            self._catalog.remove(key)
            self._origin.pop(key, None)
        elif not self._in_step(claim):
            return False
        self._strict.discard(key)
        if self._refused.pop(key, None) is not None:
            self._changed()
        return True

    def _is_put_off(self, key: AgentKey) -> bool:
        """Whether the same was asked for in vain, and is not due yet: another change is no reason."""
        refused = self._refused.get(key)
        return (
            refused is not None
            and refused.unanswered
            and refused.claim == self.claims.chosen(key)
            and time.monotonic() < refused.due
        )

    async def _load(self, claim: Claim) -> ServedAgent:
        """Read the documents that `claim` asks for.

        Raises:
            RefusedError: for whatever reason, it cannot be done. That is one Agent's business alone.
        """
        tenant = claim.key[0]
        failures, last = self._unanswered.get(tenant, (0, 0.0))
        if failures >= HOPELESS and time.monotonic() < last + READ_S:
            raise UnansweredError("the API server answers for no ConfigMap of its tenant")
        try:
            async with asyncio.timeout(READ_S):
                agent = await load(self._client, claim)
        except (KubeError, TimeoutError) as error:
            failures, _ = self._unanswered.get(tenant, (0, 0.0))
            self._unanswered[tenant] = failures + 1, time.monotonic()
            why = str(error) or f"no answer within {READ_S:g} s"
            raise UnansweredError(f"its ConfigMaps cannot be read for now: {why}") from error
        except RefusedError:
            raise
        except Exception as error:
            log.exception("Agent %s/%s, revision %s", *claim.ref, claim.revision)
            raise RefusedError(f"internal error ({type(error).__name__})") from error
        self._unanswered.pop(tenant, None)
        return agent

    def _in_step(self, claim: Claim) -> bool:
        """Whether the revision that `claim` asks for is in effect; suspends or resumes what is."""
        key = claim.key
        served = self._catalog.find(*key)
        if served is None:
            return False
        if served.suspended != claim.suspended:
            self._catalog.put(key, replace(served, suspended=claim.suspended))
        if served.revision != claim.revision:
            return False
        self._origin[key] = claim.uid
        return True

    def _observe(self, claim: Claim) -> None:
        """Report how long an edit took; a new agent may have waited for its tenant first."""
        if claim.observed is not None and self._origin.get(claim.key) == claim.uid:
            lag_s = max((datetime.now(UTC) - claim.observed).total_seconds(), 0.0)
            self._in_effect(lag_s)
            log.info("Agent %s/%s: revision %s is in effect, after %.3f s", *claim.ref, claim.revision, lag_s)

    def _refuse(self, claim: Claim, reason: str, *, unanswered: bool) -> None:
        key, before = claim.key, self._refused.get(claim.key)
        tries = 1
        if before and (before.claim.uid, before.claim.revision) == (claim.uid, claim.revision):
            tries = before.tries + 1
        else:
            log.warning("Agent %s/%s, revision %s: %s", *claim.ref, claim.revision, reason)
        wait = min(FIRST_RETRY_S * 2.0 ** min(tries - 1, 10), LONGEST_RETRY_S) * random.uniform(0.75, 1)  # noqa: S311 - no secret
        self._refused[key] = Refused(claim, reason, tries, time.monotonic() + wait, unanswered)
        self._changed()
        if self._catalog.find(*key) is None or self._origin.get(key) != claim.uid:
            # What another Agent of this name said before is not this one's last good revision.
            self._origin.pop(key, None)
            self._catalog.remove(key, Missing.SUSPENDED if claim.suspended else Missing.NOT_YET)

    def _changed(self) -> None:
        """Note that refusals are others now; the list of them is made once for many."""
        self._untold.set()
        self._told()

    async def _tell(self) -> None:
        while True:
            await self._untold.wait()
            self._untold.clear()
            self._catalog.problems = tuple(self._problems())
            await asyncio.sleep(LOOK_S)

    def _problems(self) -> Iterator[Problem]:
        for key, refused in sorted(self._refused.items()):
            served = self._catalog.find(*key)
            if served is not None:
                then = f"revision {served.revision} stays in effect"
            else:
                then = "it is suspended" if refused.claim.suspended else "its messages wait"
            yield Problem(
                "/".join(refused.claim.ref),
                f"revision {refused.claim.revision} is refused: {refused.reason}; {then}",
            )
