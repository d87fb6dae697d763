"""The agents a worker serves, in memory, and the interface of what keeps them up to date.

A source (a watched folder; the Kubernetes API in a cluster) puts whole entries in; a message
takes one entry when it is claimed and keeps it to its end. So a reply never mixes two revisions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from shared.persona import Configuration, Rendered, load
from shared.prompt import prompt_sha256, system_prompt

AgentKey = tuple[str, str]
"""(tenant, agent name)."""


@dataclass(frozen=True, slots=True)
class ServedAgent:
    """One agent at one revision, ready to answer: everything is computed once, when it is loaded."""

    tenant_id: str
    """Its tenant."""

    name: str
    """Its name."""

    documents: Rendered
    """The two documents that every answering field was read from."""

    configuration: Configuration
    """The documents, parsed."""

    prompt: str
    """The system prompt, ending in the transparency clause."""

    prompt_sha256: str
    """Hash of the prompt."""

    suspended: bool = False
    """Whether it is switched off."""

    @classmethod
    def of(cls, key: AgentKey, documents: Rendered, *, suspended: bool = False) -> ServedAgent:
        """Parse and check `documents` and build the prompt.

        Raises:
            shared.persona.DocumentError: the documents are not what their revision says.
        """
        configuration = load(documents.identity_json, documents.persona_json, documents.revision)
        prompt = system_prompt(configuration)
        return cls(*key, documents, configuration, prompt, prompt_sha256(prompt), suspended)

    @property
    def revision(self) -> str:
        """Revision of the documents."""
        return self.documents.revision


@dataclass(frozen=True, slots=True)
class Problem:
    """Why something that was applied is not in effect."""

    where: str
    """The manifest: a path, or a namespace and a name."""

    message: str
    """What is wrong and what to do."""


class AgentCatalog:
    """The agents in effect.

    Reads take no lock: an entry never changes, and is put, replaced or removed in one step. One thread
    writes.
    """

    def __init__(self) -> None:
        self._agents: dict[AgentKey, ServedAgent] = {}
        self._expected: set[AgentKey] = set()
        self._problems: tuple[Problem, ...] = ()
        self.complete = False
        """Whether an agent that is not here is unknown, rather than not loaded yet."""

    def __len__(self) -> int:
        return len(self._agents)

    def find(self, tenant_id: str, name: str) -> ServedAgent | None:
        """Return the agent of `tenant_id` called `name`, or None."""
        return self._agents.get((tenant_id, name))

    def may_come(self, tenant_id: str, name: str) -> bool:
        """Whether an agent that is not in effect may be so soon: its message is better kept than failed."""
        return not self.complete or (tenant_id, name) in self._expected

    def swap(self, agents: Mapping[AgentKey, ServedAgent], problems: tuple[Problem, ...] = ()) -> None:
        """Put `agents` in effect instead of all that were, with what could not be."""
        self._agents, self._problems, self.complete = dict(agents), problems, True

    def put(self, key: AgentKey, agent: ServedAgent) -> None:
        """Put one agent in effect, instead of what was there under its name."""
        self._agents[key] = agent
        self._expected.discard(key)

    def remove(self, key: AgentKey, *, expected: bool = False) -> None:
        """Take one agent out of effect; `expected`: it exists and cannot be put in effect for now."""
        if not expected:
            self._expected.discard(key)
        else:
            self._expected.add(key)  # first: between the two steps it must not look unknown
        self._agents.pop(key, None)

    @property
    def agents(self) -> Mapping[AgentKey, ServedAgent]:
        """Every agent in effect at this moment, suspended ones too: a copy."""
        return self._agents.copy()

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What was applied and is not in effect."""
        return self._problems

    @problems.setter
    def problems(self, problems: tuple[Problem, ...]) -> None:
        self._problems = problems


class AgentSource(Protocol):
    """Keeps a catalog up to date, in threads of its own."""

    def start(self) -> None:
        """Begin to fill the catalog and to follow changes, until :meth:`stop`."""

    def stop(self) -> None:
        """End the threads; the catalog stays as it is."""

    def healthy(self) -> bool:
        """Whether changes are being followed at present."""

    def accepting(self) -> bool:
        """Whether messages may be answered from the catalog as it is now."""
