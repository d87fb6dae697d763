"""The demo's copy of the manifests: who is in it, and the edit that is made to one of them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import yaml

from orchestrator.agents.folder import SUFFIXES
from shared.manifest import load_manifests
from shared.models import Agent, Namespace
from shared.persona import render


class Found(NamedTuple):
    """An Agent and the file that holds it."""

    file: Path
    """The file."""

    agent: Agent
    """The Agent."""

    @property
    def revision(self) -> str:
        """Revision that the manifest renders to, here in this process."""
        return render(self.agent.spec).revision


def agents_in(folder: Path) -> dict[tuple[str, str], Found]:
    """Read the Agents of a folder, by tenant and name.

    Raises:
        ManifestError: a file is not valid.
    """
    files = [file for file in sorted(folder.rglob("*")) if file.suffix in SUFFIXES]
    read = [(file, manifest) for file in files for manifest in load_manifests(file.read_text())]
    tenants = {each.metadata.name: each.tenant_id for _, each in read if isinstance(each, Namespace)}
    return {
        (tenant, each.metadata.name): Found(file, each)
        for file, each in read
        if isinstance(each, Agent) and (tenant := tenants.get(each.metadata.namespace)) is not None
    }


def make_a_pirate(found: Found) -> Found:
    """Save another persona for an agent, whole, as an editor does; return what is in the file now."""
    documents = list(yaml.safe_load_all(found.file.read_text()))
    for document in documents:
        if (
            document
            and document["kind"] == "Agent"
            and document["metadata"]["name"] == found.agent.metadata.name
        ):
            spec = document["spec"]
            spec["systemPrompt"] = (
                f"You are Captain {spec['displayName']}, a pirate. You always say Ahoy, and talk about the "
                "sea and treasure. Answer in two short sentences."
            )
            spec["persona"] = {**spec.get("persona", {}), "tone": "like a pirate"}
    unsaved = found.file.with_suffix(".unsaved")
    unsaved.write_text(yaml.safe_dump_all(documents, sort_keys=False))
    unsaved.replace(found.file)
    for manifest in load_manifests(found.file.read_text()):
        if isinstance(manifest, Agent) and manifest.metadata.name == found.agent.metadata.name:
            return Found(found.file, manifest)
    raise AssertionError("the agent is gone from its own file")
