"""Building an Agent's status: what people read in `kubectl get agents` and `kubectl describe agent`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from konstruct_operator.crd_status import MAX_MESSAGE
from konstruct_operator.roster import Verdict
from konstruct_operator.workers import Sync
from shared.kube.objects import AgentRef, ConditionReason, ConditionType, StoredAgent, micro_time, text_of
from shared.models import TENANT_LABEL

Reason = ConditionReason
"""Short, for the tables below."""


@dataclass(frozen=True, slots=True)
class Active:
    """What is in effect, or is about to be."""

    revision: str
    """Its revision."""

    tenant_id: str
    """The tenant that it answers for."""

    prompt_sha256: str | None
    """Hash of its system prompt."""

    transparency_clause: str | None
    """Version of the clause in its system prompt."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it went."""

    active: Active | None
    """What is in effect now."""

    invalid: str | None = None
    """What is wrong with the stored spec, if anything."""

    failure: str | None = None
    """Why the documents cannot be written, if they cannot."""


@dataclass(frozen=True, slots=True)
class _Condition:
    type: ConditionType
    status: str
    reason: ConditionReason
    message: str

    @property
    def true(self) -> bool:
        return self.status == "True"


def points_at(agent: StoredAgent, active: Active | None) -> bool:
    """Whether the stored status points workers at `active` already."""
    if active is None:
        return agent.active_revision is None
    return (agent.active_revision, agent.tenant_id) == (active.revision, active.tenant_id)


def build_status(
    agent: StoredAgent,
    verdict: Verdict,
    outcome: Outcome,
    *,
    sync: Sync,
    observed: datetime,
    now: datetime,
) -> dict[str, Any]:
    """Build the whole status of `agent`.

    `sync` speaks of the active revision; it counts unless that was in effect everywhere once.
    """
    active = outcome.active
    accepted = _accepted(agent, verdict)
    rendered = _rendered(verdict, outcome)
    synced = _synced(agent, active, sync)
    conditions = (
        accepted,
        _conflict(verdict),
        rendered,
        synced,
        _ready(agent, accepted, rendered, synced, active),
    )
    status: dict[str, Any] = {
        "observedGeneration": agent.generation,
        "observedTime": micro_time(observed),
        "tenantId": verdict.tenant_id,
        "activeRevision": active and active.revision,
        "promptSha256": active and active.prompt_sha256,
        "transparencyClause": active and active.transparency_clause,
        "conditions": [_stored(condition, agent, now) for condition in conditions],
    }
    return {name: value for name, value in status.items() if value is not None}


def _accepted(agent: StoredAgent, verdict: Verdict) -> _Condition:
    messages = {
        Reason.ACCEPTED: f"it answers for tenant {verdict.tenant_id} as {agent.name}",
        Reason.NO_TENANT: f"namespace {agent.namespace} names no tenant; label it: "
        f"kubectl label namespace {agent.namespace} {TENANT_LABEL}=<tenant>",
        Reason.INVALID_TENANT: f"the label {TENANT_LABEL} of namespace {agent.namespace} is "
        f"{verdict.label!r}, which cannot be a tenant; use lower case letters, digits and '-'",
        Reason.NAME_TAKEN: f"{_named(verdict.rivals[:1])}, which is older, answers as {agent.name} for "
        f"tenant {verdict.tenant_id}; delete one of the two, or give this one another name",
    }
    status = "True" if verdict.accepted else "False"
    return _Condition(ConditionType.ACCEPTED, status, verdict.reason, messages[verdict.reason])


def _conflict(verdict: Verdict) -> _Condition:
    if not verdict.rivals:
        message = "no other Agent of the tenant has this name"
        return _Condition(ConditionType.NAME_CONFLICT, "False", Reason.NO_CONFLICT, message)
    if verdict.accepted:
        message = f"{_named(verdict.rivals)} claims the same name later, and is not served"
    else:
        message = f"{_named(verdict.rivals)} claims the same name"
    return _Condition(ConditionType.NAME_CONFLICT, "True", Reason.NAME_TAKEN, message)


def _rendered(verdict: Verdict, outcome: Outcome) -> _Condition:
    active = outcome.active
    stays = f"; revision {active.revision} stays in effect" if active else "; nothing is in effect"
    if not verdict.accepted:
        status, reason, message = "False", Reason.NOT_ACCEPTED, "it is not served, see the condition Accepted"
    elif outcome.failure is not None:
        status, reason, message = "False", Reason.RENDER_FAILED, outcome.failure + stays
    elif outcome.invalid is not None:
        status, reason, message = "False", Reason.INVALID_SPEC, outcome.invalid + stays
    else:
        status, reason, message = "True", Reason.RENDERED, f"revision {active and active.revision}"
    return _Condition(ConditionType.RENDERED, status, reason, message)


def _synced(agent: StoredAgent, active: Active | None, sync: Sync) -> _Condition:
    kind = ConditionType.CONFIG_SYNCED
    if active is None:
        return _Condition(
            kind, "False", Reason.NOT_ACCEPTED, "nothing is in effect, see Accepted and Rendered"
        )
    stored = agent.condition(kind)
    if stored is not None and points_at(agent, active):
        message = text_of(stored.get("message")) or sync.message
        if stored.get("status") == "True":  # it is not taken back
            return _Condition(kind, "True", Reason.WORKERS_SYNCED, message)
        if stored.get("reason") == sync.reason:  # not every step on the way is worth a write
            return _Condition(kind, sync.status, sync.reason, message)
    return _Condition(kind, sync.status, sync.reason, sync.message)


def _ready(
    agent: StoredAgent,
    accepted: _Condition,
    rendered: _Condition,
    synced: _Condition,
    active: Active | None,
) -> _Condition:
    kind = ConditionType.READY
    for needed in (accepted, rendered):
        if not needed.true:
            return _Condition(kind, "False", needed.reason, needed.message)
    if agent.suspended:
        message = "it is switched off by spec.suspended; messages to it fail with agent_suspended"
        return _Condition(kind, "False", Reason.SUSPENDED, message)
    if not synced.true:
        return _Condition(kind, "False", synced.reason, synced.message)
    return _Condition(kind, "True", Reason.READY, f"it answers with revision {active and active.revision}")


def _stored(condition: _Condition, agent: StoredAgent, now: datetime) -> dict[str, Any]:
    before: Mapping[str, Any] = agent.condition(condition.type) or {}
    same = before.get("status") == condition.status
    since = text_of(before.get("lastTransitionTime")) if same else None
    return {
        "type": condition.type.value,
        "status": condition.status,
        "observedGeneration": agent.generation,
        "lastTransitionTime": since or now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "reason": condition.reason.value,
        "message": condition.message[:MAX_MESSAGE],
    }


def _named(refs: tuple[AgentRef, ...]) -> str:
    return ", ".join(f"Agent {namespace}/{name}" for namespace, name in refs[:3]) + (
        f" and {len(refs) - 3} more" if len(refs) > 3 else ""
    )
