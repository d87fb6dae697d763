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
        self._version: int | None = None
        self._late: dict[AgentKey, int | None] = {}  # with the version before, the oldest first
        self.begun = False
        """Whether a list has come, in effect or not yet."""

    @property
    def seen(self) -> int | None:
        """Resource version up to which every Agent is applied or refused; None before the first list is."""
        return next(iter(self._late.values()), self._version)

    @property
    def waits(self) -> bool:
        """Whether something is neither applied nor refused yet."""
        return bool(self._late)

    async def replaced(self, objects: list[Object], resource_version: str) -> None:
        """Have a complete list put in effect."""
        # Before its first list this worker knew nothing, or nothing that still counts.
        strict, self.begun = not self.begun, True
        agents = [StoredAgent.of(item) for item in objects]
        self._want(self._effect.claims.replace(self._namespace, agents), strict=strict)
        self._version = int(resource_version)
        self._progress()

    async def changed(self, changes: list[Change], resource_version: str) -> None:
        """Have changes put in effect: each name once, as the last of its changes leaves it."""
        keys: set[AgentKey] = set()
        for change in changes:
            agent = StoredAgent.of(change.object)
            claims = self._effect.claims
            keys |= claims.remove(agent.ref) if change.type == "DELETED" else claims.put(agent)
        self._want(keys)
        self._version = int(resource_version)
        if changes:
            self._progress()

    def forget(self) -> None:
        """Take out of effect whatever was read here."""
        self._want(self._effect.claims.replace(self._namespace, ()), strict=True)

    def settled(self, key: AgentKey) -> None:
        """Take in that an entry is applied or refused."""
        if key in self._late:
            del self._late[key]
            self._progress()

    def _want(self, keys: set[AgentKey], *, strict: bool = False) -> None:
        late = self._effect.want(keys, strict=strict)
        for key in keys - late:
            self._late.pop(key, None)
        for key in late:
            self._late.setdefault(key, self._version)
