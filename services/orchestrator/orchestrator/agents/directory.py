"""A folder of manifests as the source of agents, for local use.

Laid out as one would ``kubectl apply -R``: Agents beside the Namespace whose label names their tenant.
A saved manifest is in effect at once; a broken one is reported and the last good one of that file stays.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from watchfiles import watch

from orchestrator.agents.catalog import AgentCatalog, AgentKey, Problem, ServedAgent
from shared.manifest import MAX_MANIFEST_BYTES, ManifestError, load_manifests
from shared.models import TENANT_LABEL, Agent, Namespace
from shared.names import is_dns_label
from shared.persona import render

log = logging.getLogger(__name__)

Kind = TypeVar("Kind", Agent, Namespace)
"""A kind of manifest."""

SUFFIXES = (".yaml", ".yml")
"""Endings of the files that are read."""

DEBOUNCE_MS = 100
"""Milliseconds in which changes are gathered; an editor writes a file in several steps."""

RESCAN_MS = 2_000
"""Milliseconds between looks at the folder when no change was reported (network file systems)."""


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """What one file says, or said when it was last good."""

    manifests: tuple[Agent | Namespace, ...]
    """Its manifests, from the last time all of them were valid."""

    problem: str | None = None
    """What is wrong with it now."""


class DirectorySource:
    """Follows a folder, with its subfolders, and keeps a catalog in step with it."""

    def __init__(self, folder: Path, catalog: AgentCatalog) -> None:
        self._folder = folder
        self._catalog = catalog
        self._files: dict[Path, ManifestFile] = {}
        self._stamps: dict[Path, tuple[int, int, int]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="agents-directory", daemon=True)

    def start(self) -> None:
        """Read the folder once, then follow it.

        Raises:
            NotADirectoryError: the folder is not there.
        """
        if not self._folder.is_dir():
            raise NotADirectoryError(
                f"{self._folder} is not a folder; make it, or correct KONSTRUCT_AGENTS_DIR"
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
        while not self._stop.is_set():
            try:
                self._watch()
            except Exception:
                # The folder may be gone for a moment (a checkout, a remount): agents stay as they are.
                log.exception("following %s failed; trying again", self._folder)
                self._stop.wait(1)

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
        stamps = dict(_stamps(self._folder))
        if stamps == self._stamps:
            return
        self._files = {
            path: self._files[path]
            if stamp == self._stamps.get(path)
            else read_file(path, self._files.get(path))
            for path, stamp in sorted(stamps.items())
        }
        self._stamps = stamps
        relative = {str(path.relative_to(self._folder)): file for path, file in self._files.items()}
        agents, problems = assemble(relative, self._catalog.agents)
        for problem in set(problems) - set(self._catalog.problems):
            log.warning("%s: %s", problem.where, problem.message)
        self._catalog.swap(agents, problems)
        log.info("%d agents in effect, %d problems", len(agents), len(problems))


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
    except (ManifestError, OSError, UnicodeDecodeError) as error:
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


def _stamps(folder: Path) -> Iterator[tuple[Path, tuple[int, int, int]]]:
    """Tell one version of a file from the next, without reading it: a rename changes the inode."""
    for path in folder.rglob("*"):
        if path.suffix in SUFFIXES and not path.name.startswith("."):
            try:
                status = path.stat()
            except OSError:  # gone between the listing and the look
                continue
            yield path, (status.st_mtime_ns, status.st_size, status.st_ino)
