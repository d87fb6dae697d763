"""Which Agent of the cluster is served under which name. Pure.

An Agent is served when the operator has accepted it, found its tenant and put a revision in effect. Of two
with one name in one tenant the oldest is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from orchestrator.agents.catalog import AgentKey
from shared.kube.objects import AgentRef, ConditionType, Seniority, StoredAgent
from shared.names import is_dns_label


@dataclass(frozen=True, slots=True)
class Claim:
    """What one Agent asks to have in effect: all that is kept of it."""

    namespace: str
    """Its namespace."""

    key: AgentKey
    """Tenant and name under which it is served."""

    uid: str
    """Identity of the object."""

    seniority: Seniority
    """Its place among those of its key."""

    revision: str
    """Revision that the operator has put in effect."""

    suspended: bool
    """Whether it is switched off."""

    observed: datetime | None
    """When the operator first saw its present generation."""

    @classmethod
    def of(cls, agent: StoredAgent) -> Claim | None:
        """Return what `agent` asks for, or None when it is not to be served."""
        tenant, revision = agent.tenant_id, agent.active_revision
        if tenant is None or not is_dns_label(tenant) or revision is None:
            return None
        if agent.deleting or not agent.is_true(ConditionType.ACCEPTED):
            return None
        return cls(
            namespace=agent.namespace,
            key=(tenant, agent.name),
            uid=agent.uid,
            seniority=agent.seniority,
            revision=revision,
            suspended=agent.suspended,
            observed=agent.observed_time,
        )

    @property
    def ref(self) -> AgentRef:
        """Namespace and name of the Agent."""
        return self.namespace, self.key[1]


class Claims:
    """Every Agent that asks to be served. Methods return the names whose Agent may be another now."""

    def __init__(self) -> None:
        self._by_ref: dict[AgentRef, Claim] = {}
        self._by_key: dict[AgentKey, tuple[Claim, ...]] = {}

    def chosen(self, key: AgentKey) -> Claim | None:
        """Return the claim that is served under `key`, or None."""
        claims = self._by_key.get(key)
        return claims[0] if claims else None

    def replace(self, namespace: str | None, agents: Iterable[StoredAgent]) -> set[AgentKey]:
        """Take `agents` for all that are in `namespace` (None: in the cluster)."""
        found = {agent.ref: agent for agent in agents}
        gone = [
            ref for ref in self._by_ref if ref not in found and (namespace is None or ref[0] == namespace)
        ]
        keys: set[AgentKey] = set()
        for ref in gone:
            keys |= self.remove(ref)
        for agent in found.values():
            keys |= self.put(agent)
        return keys

    def put(self, agent: StoredAgent) -> set[AgentKey]:
        """Take `agent` as it is now."""
        keys = self.remove(agent.ref)
        claim = Claim.of(agent)
        if claim is not None:
            self._by_ref[claim.ref] = claim
            others = self._by_key.get(claim.key, ())
            self._by_key[claim.key] = tuple(sorted((*others, claim), key=lambda c: c.seniority))
            keys.add(claim.key)
        return keys

    def remove(self, ref: AgentRef) -> set[AgentKey]:
        """Forget an Agent."""
        claim = self._by_ref.pop(ref, None)
        if claim is None:
            return set()
        left = tuple(other for other in self._by_key[claim.key] if other is not claim)
        if left:
            self._by_key[claim.key] = left
        else:
            del self._by_key[claim.key]
        return {claim.key}
