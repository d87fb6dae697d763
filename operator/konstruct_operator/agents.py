"""The Agents as last seen, packed: ten thousand parsed ones would take more memory than all the rest."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime

from shared.kube.objects import AgentRef, ConditionType, Object, StoredAgent, agent_alone


@dataclass(slots=True)
class _Record:
    uid: str
    resource_version: int
    generation: int
    observed: datetime
    ready: bool
    packed: bytes


class AgentStore:
    """Every Agent that was seen whole."""

    def __init__(self) -> None:
        self._records: dict[AgentRef, _Record] = {}

    def put(self, item: Object) -> StoredAgent | None:
        """Take in an object of the API; returns the Agent, or None when a newer one is known."""
        agent = StoredAgent.of(item)
        known = self._records.get(agent.ref)
        if known is not None and known.resource_version >= agent.resource_version:
            return None
        if known is not None and (known.uid, known.generation) == (agent.uid, agent.generation):
            observed = known.observed
        elif agent.status.get("observedGeneration") == agent.generation and agent.observed_time:
            observed = agent.observed_time  # seen before this process started
        else:
            observed = datetime.now(UTC)
        self._records[agent.ref] = _Record(
            uid=agent.uid,
            resource_version=agent.resource_version,
            generation=agent.generation,
            observed=observed,
            ready=agent.is_true(ConditionType.READY),
            packed=_packed(item),
        )
        return agent

    def get(self, ref: AgentRef) -> tuple[StoredAgent, datetime] | None:
        """Return an Agent and when its present generation was first seen."""
        record = self._records.get(ref)
        return None if record is None else (StoredAgent.of(json.loads(record.packed)), record.observed)

    def remove(self, ref: AgentRef, uid: str) -> bool:
        """Forget an Agent; False when it is another of that name by now."""
        record = self._records.get(ref)
        if record is None or record.uid != uid:
            return False
        del self._records[ref]
        return True

    def uid(self, ref: AgentRef) -> str | None:
        """Return the identity of an Agent, if it is known."""
        record = self._records.get(ref)
        return None if record is None else record.uid

    def ready(self) -> int:
        """Count the Agents that are ready."""
        return sum(record.ready for record in self._records.values())

    def __len__(self) -> int:
        return len(self._records)


def _packed(item: Object) -> bytes:
    text = json.dumps(agent_alone(item), ensure_ascii=False, separators=(",", ":"))
    return text.encode(errors="surrogatepass")
