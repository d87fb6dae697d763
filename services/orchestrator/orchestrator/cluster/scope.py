"""What one list+watch loop feeds: the Agents of one namespace, or of all."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.agents.catalog import AgentKey
from orchestrator.cluster.effect import Effect
from shared.kube.objects import Object, StoredAgent
from shared.kube.watch import Change


class Scope:
    """Takes in the Agents of one watched namespace, or of all: the sink of one follower."""

    def __init__(self, namespace: str | None, effect: Effect, progress: Callable[[], None]) -> None:
        self._namespace = namespace
        self._effect = effect
        self._progress = progress
        self.begun = False
        """Whether a list has come, in effect or not yet."""
        self.seen: int | None = None
        """Resource version up to which every Agent is applied or refused; None before the first list."""

    async def replaced(self, objects: list[Object], resource_version: str) -> None:
        """Put a complete list in effect."""
        self.begun = True
        agents = [StoredAgent.of(item) for item in objects]
        await self._effect.settle(self._effect.claims.replace(self._namespace, agents))
        self.seen = int(resource_version)
        self._progress()

    async def changed(self, changes: list[Change], resource_version: str) -> None:
        """Put changes in effect: each name once, as the last of its changes leaves it."""
        keys: set[AgentKey] = set()
        for change in changes:
            agent = StoredAgent.of(change.object)
            claims = self._effect.claims
            keys |= claims.remove(agent.ref) if change.type == "DELETED" else claims.put(agent)
        await self._effect.settle(keys)
        self.seen = int(resource_version)
        if changes:
            self._progress()
