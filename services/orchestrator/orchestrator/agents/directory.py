"""A folder of manifests as the source of agents, for local use.

Laid out as one would ``kubectl apply -R``: Agents beside the Namespace whose label names their tenant.
A saved manifest is in effect at once; a broken one is reported and the last good one of that file stays.
What cannot be read (a folder without rights, a network file system that fails) is not taken for empty: its
agents stay as they are, and messages to agents that are not known wait.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from watchfiles import watch

from orchestrator.agents.catalog import AgentCatalog, AgentKey, Problem, ServedAgent
from orchestrator.agents.folder import Found, look_at
from shared.config import ConfigurationError
from shared.manifest import MAX_MANIFEST_BYTES, ManifestError, load_manifests
from shared.models import TENANT_LABEL, Agent, Namespace
from shared.names import is_dns_label
from shared.persona import render

log = logging.getLogger(__name__)

Kind = TypeVar("Kind", Agent, Namespace)
"""A kind of manifest."""

DEBOUNCE_MS = 100
"""Milliseconds in which changes are gathered; an editor writes a file in several steps."""

RESCAN_MS = 2_000
"""Milliseconds between looks at the folder when no change was reported (network file systems)."""

AGAIN_S = 1.0
"""Seconds between looks at a folder that cannot be watched, because it is away."""


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """What one file says, or said when it was last good."""

    manifests: tuple[Agent | Namespace, ...]
    """Its manifests, from the last time all of them were valid."""

    problem: str | None = None
    """What is wrong with it now."""

    unread: bool = False
    """Whether it could not be read, so that nobody knows what it says now."""


class DirectorySource:
    """Follows a folder, with its subfolders, and keeps a catalog in step with it."""

    def __init__(self, folder: Path, catalog: AgentCatalog) -> None:
        self._folder = folder
        self._catalog = catalog
        self._files: dict[Path, ManifestFile] = {}
        self._found: Found | None = None  # before the first look; an empty folder is something else
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="agents-directory", daemon=True)

    def start(self) -> None:
        """Read the folder once, then follow it.

        Raises:
            ConfigurationError: the folder is not there.
        """
        if not os.path.isdir(self._folder):  # noqa: PTH112 - Path.is_dir raises where there are no rights
            raise ConfigurationError(
                f"{self._folder} is not a folder that can be read; make it, or correct KONSTRUCT_AGENTS_DIR"
            )
        self._refresh()
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def healthy(self) -> bool:
        """Whether the folder is being followed."""
        return self._thread.is_alive()

    def accepting(self) -> bool:
        """Return True: nobody else says what a folder holds."""
        return True

    def problems(self) -> tuple[Problem, ...]:
        """Return none: what is wrong with the folder is told with what is wrong in it."""
        return ()

    def _follow(self) -> None:
        told = ""
        while not self._stop.is_set():
            try:
                if told:
                    self._refresh()
                self._watch()
            except Exception as error:  # noqa: BLE001 - told, and tried again
                # The folder may be away for a moment (a checkout, a remount).
                if told != (told := f"{type(error).__name__}: {error}"):
                    log.warning("%s cannot be watched (%s); trying again", self._folder, told)
                self._stop.wait(AGAIN_S)

    def _watch(self) -> None:
        changes = watch(
            self._folder,
            watch_filter=None,
            debounce=DEBOUNCE_MS,
            rust_timeout=RESCAN_MS,
            yield_on_timeout=True,
            stop_event=self._stop,
            raise_interrupt=False,
        )
        # Whatever was reported, and also when nothing was: the folder itself is the truth.
        for _ in changes:
            self._refresh()

    def _refresh(self) -> None:
        """Read what changed since the last look and put the whole in effect."""
        found, before = look_at(self._folder), self._found or Found()
        stamps = {path: stamp for path, stamp in before.stamps.items() if found.hides(path)}
        found = Found({**stamps, **found.stamps}, found.unreadable)
        files = {
            path: known
            if (known := self._files.get(path)) and not known.unread and stamp == before.stamps.get(path)
            else read_file(path, known)
            for path, stamp in sorted(found.stamps.items())
        }
        if found == self._found and files == self._files:
            return
        self._files, self._found = files, found
        relative = {str(path.relative_to(self._folder)): file for path, file in files.items()}
        agents, problems = assemble(relative, self._catalog.agents)
        problems += tuple(Problem(str(path), _unknown(why)) for path, why in found.unreadable.items())
        for problem in set(problems) - set(self._catalog.problems):
            log.warning("%s: %s", problem.where, problem.message)
        complete = not found.unreadable and not any(file.unread for file in files.values())
        self._catalog.swap(agents, problems, complete=complete)
        log.info("%d agents in effect, %d problems", len(agents), len(problems))


def _unknown(why: str) -> str:
    return (
        f"it cannot be read ({why}). Its agents stay as they last were, and messages to agents that are not "
        "known wait; make it readable, or take it out of the folder"
    )


def read_file(path: Path, before: ManifestFile | None) -> ManifestFile:
    """Read a manifest file; if it is not valid, keep what it said before and report it."""
    try:
        with path.open("rb") as stream:
            # One byte over is enough for the reader to refuse it.
            text = stream.read(MAX_MANIFEST_BYTES + 1).decode()
        if before and before.manifests and not text.strip():
            # An editor empties a file before it writes: that must not take agents away.
            raise ManifestError("the file is empty; delete it to remove its agents")  # noqa: TRY301
        manifests = load_manifests(text)
    except FileNotFoundError:  # gone between the look and the reading: the next look takes it out
        return before or ManifestFile(())
    except OSError as error:
        return ManifestFile(
            before.manifests if before else (), _unknown(error.strerror or str(error)), unread=True
        )
    except (ManifestError, UnicodeDecodeError) as error:
        problem = "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)
        kept = before.manifests if before else ()
        return ManifestFile(kept, f"{problem}; the last good version stays" if kept else problem)
    return ManifestFile(tuple(manifests))


def assemble(
    files: Mapping[str, ManifestFile], served: Mapping[AgentKey, ServedAgent]
) -> tuple[dict[AgentKey, ServedAgent], tuple[Problem, ...]]:
    """Turn files, by their path below the folder, into the agents in effect and the problems.

    The rules are the cluster's: a namespace without the tenant label serves nobody, and of two agents
    of one name in one tenant the first stays (a folder has no creation times: the first by path).
    `served` spares rendering agents that did not change.
    """
    problems = [Problem(path, file.problem) for path, file in files.items() if file.problem]
    tenants, refusals = _tenants(files)
    problems += refusals
    agents: dict[AgentKey, ServedAgent] = {}
    taken: dict[AgentKey, str] = {}
    for path, agent in _of_kind(files, Agent):
        name, namespace = agent.metadata.name, agent.metadata.namespace
        tenant = tenants.get(namespace)
        if tenant is None:
            problems.append(
                Problem(
                    path,
                    f"Agent {name} is not served: no Namespace {namespace} with the label {TENANT_LABEL} "
                    "is in the folder; add one",
                )
            )
        elif (tenant, name) in taken:
            first = taken[tenant, name]
            problems.append(
                Problem(
                    path,
                    f"Agent {name} is not served: tenant {tenant} has an agent of that name in {first}; "
                    "rename one of the two",
                )
            )
        else:
            taken[tenant, name] = path
            agents[tenant, name] = _serve((tenant, name), agent, served.get((tenant, name)))
    return agents, tuple(problems)


def _tenants(files: Mapping[str, ManifestFile]) -> tuple[dict[str, str], list[Problem]]:
    """Map namespaces to tenants; a label with a form that no tenant has is a problem."""
    tenants: dict[str, str] = {}
    problems = []
    for path, namespace in _of_kind(files, Namespace):
        tenant = namespace.tenant_id
        if tenant is not None and not is_dns_label(tenant):
            problems.append(
                Problem(path, f"Namespace {namespace.metadata.name}: {TENANT_LABEL} must be a DNS label")
            )
        elif tenant is not None:
            tenants.setdefault(namespace.metadata.name, tenant)
    return tenants, problems


def _serve(key: AgentKey, agent: Agent, before: ServedAgent | None) -> ServedAgent:
    documents = render(agent.spec)
    if before and before.documents == documents and before.suspended == agent.spec.suspended:
        return before
    return ServedAgent.of(key, documents, suspended=agent.spec.suspended)


def _of_kind(files: Mapping[str, ManifestFile], kind: type[Kind]) -> Iterable[tuple[str, Kind]]:
    return (
        (path, manifest)
        for path, file in files.items()
        for manifest in file.manifests
        if isinstance(manifest, kind)
    )
