"""What a worker hands to the process that answers one message for it (:mod:`orchestrator.isolated`)."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from orchestrator.agents.catalog import Missing, ServedAgent
from shared.models import KonstructMessage
from shared.persona import Rendered

AGAIN = 75
"""Exit status when the message is still to be answered, and has no fault: EX_TEMPFAIL of sysexits.h."""

RAISED = 70
"""Exit status when the process stumbled over the message: EX_SOFTWARE of sysexits.h."""

READY = "ready"
"""What the process says when it can take jobs."""


class Agent(BaseModel):
    """An agent as it was in effect in the worker: its documents."""

    model_config = ConfigDict(frozen=True)

    identity_json: str
    """The identity document."""

    persona_json: str
    """The persona document."""

    revision: str
    """Hash of both."""

    suspended: bool
    """Whether it is switched off."""


class Job(BaseModel):
    """What the process is to do."""

    model_config = ConfigDict(frozen=True)

    message: KonstructMessage
    """The message."""

    agent: Agent | Missing
    """Who answers, or why nobody does."""

    owner: str
    """Name of the process in leases."""

    headers: dict[str, str]
    """What carries the message's trace."""

    @classmethod
    def of(
        cls, message: KonstructMessage, agent: ServedAgent | Missing, owner: str, headers: dict[str, str]
    ) -> Job:
        """Make the job of answering `message` for `agent`, in the trace of its `headers`."""
        if isinstance(agent, Missing):
            return cls(message=message, agent=agent, owner=owner, headers=headers)
        documents = agent.documents
        given = Agent(
            identity_json=documents.identity_json,
            persona_json=documents.persona_json,
            revision=documents.revision,
            suspended=agent.suspended,
        )
        return cls(message=message, agent=given, owner=owner, headers=headers)

    def served(self) -> ServedAgent | Missing:
        """Make the agent again, and check its documents against their hash."""
        if isinstance(self.agent, Missing):
            return self.agent
        given, key = self.agent, (self.message.tenant_id, self.message.agent)
        documents = Rendered(
            identity_json=given.identity_json, persona_json=given.persona_json, revision=given.revision
        )
        return ServedAgent.of(key, documents, suspended=given.suspended)
