"""The agents a worker serves, in memory, and the interface of what keeps them up to date.

A source (a watched folder; the Kubernetes API in a cluster) puts whole entries in; a message
takes one entry when it is claimed and keeps it to its end. So a reply never mixes two revisions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
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


class Missing(Enum):
    """Why an agent is not in effect."""

    UNKNOWN = "unknown"
    """There is none of that name: a message to it fails."""

    SUSPENDED = "suspended"
    """It is switched off, and could not be loaded here: a message to it fails."""

    NOT_YET = "not yet"
    """It exists, or may, and cannot be loaded here for now: a message to it is better kept than failed."""


class AgentCatalog:
    """The agents in effect.

    Reads take no lock: an entry never changes, and is put, replaced or removed in one step. One thread
    writes.
    """

    def __init__(self) -> None:
        self._entries: dict[AgentKey, ServedAgent | Missing] = {}
        self._problems: tuple[Problem, ...] = ()
        self.complete = False
        """Whether an agent that is not here is unknown, rather than not loaded yet."""

    def __len__(self) -> int:
        return len(self.agents)

    def find(self, tenant_id: str, name: str) -> ServedAgent | None:
        """Return the agent of `tenant_id` called `name`, or None."""
        entry = self._entries.get((tenant_id, name))
        return entry if isinstance(entry, ServedAgent) else None

    def look_up(self, tenant_id: str, name: str) -> ServedAgent | Missing:
        """Return the agent of `tenant_id` called `name`, or what becomes of a message to it."""
        complete = self.complete  # first: what is put in effect between the two looks is found
        entry = self._entries.get((tenant_id, name))
        if entry is None:
            return Missing.UNKNOWN if complete else Missing.NOT_YET
        return entry

    def swap(
        self,
        agents: Mapping[AgentKey, ServedAgent | Missing],
        problems: tuple[Problem, ...] = (),
        *,
        complete: bool = True,
    ) -> None:
        """Put `agents` in effect instead of all that were, with what could not be.

        `complete`: whether these are all there are, so that any other is unknown.
        """
        if not complete:  # first: nobody is to find neither the agent nor that it may be there
            self.complete = False
        self._entries, self._problems = dict(agents), problems
        self.complete = complete

    def put(self, key: AgentKey, agent: ServedAgent) -> None:
        """Put one agent in effect, instead of what was there under its name."""
        self._entries[key] = agent

    def remove(self, key: AgentKey, missing: Missing = Missing.UNKNOWN) -> None:
        """Take one agent out of effect; `missing` says what its messages should know of it from then on."""
        if missing is Missing.UNKNOWN:
            self._entries.pop(key, None)
        else:
            self._entries[key] = missing

    @property
    def agents(self) -> Mapping[AgentKey, ServedAgent]:
        """Every agent in effect at this moment, suspended ones too: a copy."""
        entries = self._entries.copy()
        return {key: entry for key, entry in entries.items() if isinstance(entry, ServedAgent)}

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

    def problems(self) -> tuple[Problem, ...]:
        """Whole places whose agents cannot be read."""


class GivenAgents:
    """A source that follows nothing: the catalog was filled by whoever made it."""

    def start(self) -> None:
        """Do nothing."""

    def stop(self) -> None:
        """Do nothing."""

    def healthy(self) -> bool:
        """Return True: there is nothing to follow."""
        return True

    def accepting(self) -> bool:
        """Return True: the catalog is as it should be."""
        return True

    def problems(self) -> tuple[Problem, ...]:
        """Return none: there is nothing to read."""
        return ()
