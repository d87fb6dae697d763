"""Recording which revision of an agent spoke, so that a reply can be explained when the agent is gone."""

from __future__ import annotations

import time
from collections.abc import Callable

from sqlalchemy import Engine, func
from sqlalchemy.dialects.postgresql import insert

from orchestrator.agents.catalog import AgentKey, ServedAgent
from shared.db import get_session
from shared.prompt import TRANSPARENCY_CLAUSE_VERSION
from shared.tables import agent_revisions, agents

AGAIN_S = 900.0
"""Seconds after which a revision that still speaks is recorded again: what was not for an hour may be deleted
(:mod:`orchestrator.retention`)."""


class RevisionLog:
    """Writes an agent's documents once per change of revision seen by this worker, and now and then again."""

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._clock = clock
        self._recorded: dict[AgentKey, tuple[str, float]] = {}

    def record(self, agent: ServedAgent) -> None:
        """Record `agent`'s revision and make it the active one; a no-op when that was done lately."""
        key = (agent.tenant_id, agent.name)
        revision, until = self._recorded.get(key, ("", 0.0))
        now = self._clock()
        if revision == agent.revision and now < until:
            return
        with get_session(self._engine) as session:
            session.execute(
                insert(agent_revisions)
                .values(
                    tenant_id=agent.tenant_id,
                    agent=agent.name,
                    revision=agent.revision,
                    identity_json=agent.documents.identity_json,
                    persona_json=agent.documents.persona_json,
                    prompt_sha256=agent.prompt_sha256,
                    transparency_clause=TRANSPARENCY_CLAUSE_VERSION,
                )
                .on_conflict_do_update(
                    constraint=agent_revisions.primary_key, set_={"last_used_at": func.now()}
                )
            )
            active = insert(agents).values(
                tenant_id=agent.tenant_id, agent=agent.name, active_revision=agent.revision
            )
            session.execute(
                active.on_conflict_do_update(
                    index_elements=["tenant_id", "agent"],
                    set_={"active_revision": active.excluded.active_revision, "since": func.now()},
                    where=agents.c.active_revision != active.excluded.active_revision,
                )
            )
        self._recorded[key] = (agent.revision, now + AGAIN_S)
