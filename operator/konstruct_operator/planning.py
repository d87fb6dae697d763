"""What has to be written for one Agent: everything that is known goes in, a plan comes out. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from konstruct_operator.config_maps import (
    KnownConfigMap,
    beyond_history,
    config_maps,
    fingerprint,
)
from konstruct_operator.roster import Verdict
from konstruct_operator.status import Active, Outcome, build_status, points_at
from konstruct_operator.workers import Sync
from shared.kube.objects import ConditionType, Object, StoredAgent, conditions_of, text_of
from shared.manifest import describe
from shared.models import AgentSpec
from shared.persona import Rendered, load, render
from shared.prompt import TRANSPARENCY_CLAUSE_VERSION, prompt_sha256, system_prompt


@dataclass(frozen=True, slots=True)
class Target:
    """What an Agent's spec comes to."""

    active: Active | None
    """What should be in effect: of this spec, else the last good one, None when nothing is."""

    rendered: Rendered | None = None
    """The documents of the active revision, unless it is the last good one of an earlier spec."""

    history_limit: int = 3
    """How many old revisions are kept."""

    invalid: str | None = None
    """What is wrong with the stored spec."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What has to be written, in this order."""

    put: tuple[Object, ...]
    """ConfigMaps that are missing or wrong."""

    status: Object | None
    """The whole new status, None when the stored one says the same."""

    prune: tuple[KnownConfigMap, ...]
    """ConfigMaps of revisions beyond the history."""

    points: bool
    """Whether the status points workers at something else than before."""

    @property
    def empty(self) -> bool:
        """Whether nothing has to be written."""
        return not self.put and self.status is None and not self.prune


def target_of(agent: StoredAgent, verdict: Verdict) -> Target:
    """Work out what should be in effect for `agent`."""
    if not verdict.accepted or verdict.tenant_id is None:
        return Target(None)
    try:
        spec = AgentSpec.model_validate(agent.spec, extra="ignore")
    except ValidationError as error:
        return Target(last_good(agent, verdict), invalid=describe(error))
    rendered = render(spec)
    prompt = system_prompt(load(rendered.identity_json, rendered.persona_json, rendered.revision))
    active = Active(
        revision=rendered.revision,
        tenant_id=verdict.tenant_id,
        prompt_sha256=prompt_sha256(prompt),
        transparency_clause=TRANSPARENCY_CLAUSE_VERSION,
    )
    return Target(active, rendered, spec.revision_history_limit)


def last_good(agent: StoredAgent, verdict: Verdict) -> Active | None:
    """Return what is in effect already, as long as it is its tenant's."""
    if not verdict.accepted or agent.active_revision is None or agent.tenant_id != verdict.tenant_id:
        return None
    return Active(
        revision=agent.active_revision,
        tenant_id=agent.tenant_id or "",
        prompt_sha256=text_of(agent.status.get("promptSha256")),
        transparency_clause=text_of(agent.status.get("transparencyClause")),
    )


def is_latched(agent: StoredAgent, active: Active | None) -> bool:
    """Whether `active` was in effect on every worker once: that is not taken back."""
    return active is not None and points_at(agent, active) and agent.is_true(ConditionType.CONFIG_SYNCED)


def plan(
    agent: StoredAgent,
    verdict: Verdict,
    target: Target,
    known: Iterable[KnownConfigMap],
    *,
    sync: Sync,
    observed: datetime,
    now: datetime,
) -> Plan:
    """Compare what should be with what is."""
    known = tuple(known)
    put: list[Object] = []
    prune: list[KnownConfigMap] = []
    if target.rendered is not None and target.active is not None:
        there = {found.name: found.fingerprint for found in known}
        put = [
            wanted
            for wanted in config_maps(agent, target.active.tenant_id, target.rendered)
            if there.get(wanted["metadata"]["name"]) != fingerprint(wanted)
        ]
        prune = beyond_history(known, target.active.revision, target.history_limit)
    outcome = Outcome(target.active, invalid=target.invalid)
    status = build_status(agent, verdict, outcome, sync=sync, observed=observed, now=now)
    return Plan(
        put=tuple(put),
        status=None if same_status(status, agent.status) else status,
        prune=tuple(prune),
        points=not points_at(agent, target.active),
    )


def same_status(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two statuses say the same; the order of conditions means nothing."""

    def normal(status: Mapping[str, Any]) -> Object:
        stored = status.get("conditions")
        conditions = conditions_of(status)
        # What cannot be read, or is there twice, is the same as nothing.
        alike = isinstance(stored, list) and len(stored) == len(conditions)
        return {**status, "conditions": conditions if alike else stored}

    return normal(one) == normal(other)
