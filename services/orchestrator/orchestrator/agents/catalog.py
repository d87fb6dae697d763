"""The agents a worker serves, in memory, and the interface of what keeps them up to date.

A source (a watched folder here; the Kubernetes API in a cluster) swaps whole entries in; a message takes
one entry when it is claimed and keeps it to its end. So a reply never mixes two revisions.
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
    """The agents in effect. Reads take no lock: a swap replaces the whole mapping."""

    def __init__(self) -> None:
        self._agents: Mapping[AgentKey, ServedAgent] = {}
        self._problems: tuple[Problem, ...] = ()

    def find(self, tenant_id: str, name: str) -> ServedAgent | None:
        """Return the agent of `tenant_id` called `name`, or None."""
        return self._agents.get((tenant_id, name))

    def swap(self, agents: Mapping[AgentKey, ServedAgent], problems: tuple[Problem, ...] = ()) -> None:
        """Put `agents` in effect instead of all that were, with what could not be."""
        self._agents, self._problems = dict(agents), problems

    @property
    def agents(self) -> Mapping[AgentKey, ServedAgent]:
        """Every agent in effect, suspended ones too."""
        return self._agents

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What was applied and is not in effect."""
        return self._problems


class AgentSource(Protocol):
    """Keeps a catalog up to date, in threads of its own."""

    def start(self) -> None:
        """Fill the catalog once, then follow changes until :meth:`stop`."""

    def stop(self) -> None:
        """End the threads; the catalog stays as it is."""

    def healthy(self) -> bool:
        """Whether changes are being followed at present."""
