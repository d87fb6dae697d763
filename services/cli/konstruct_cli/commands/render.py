"""``konstruct render``: the exact prompt, revision and documents that a manifest gives.

Uses the renderer that workers and the operator use; needs no stack. With a cluster it reads what the operator
wrote for an Agent there.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic import BaseModel

from konstruct_cli.cluster.target import Cluster
from konstruct_cli.errors import CliError, ExitCode, UsageError
from konstruct_cli.output import emit, emit_json
from shared.manifest import MAX_MANIFEST_BYTES, ManifestError, load_manifests
from shared.models import Agent, Namespace
from shared.persona import DocumentError, Rendered, load, render
from shared.prompt import TRANSPARENCY_CLAUSE_VERSION, prompt_sha256, system_prompt


class RenderedAgent(BaseModel):
    """What one Agent manifest gives."""

    agent: str
    """Its name."""

    namespace: str
    """Its namespace."""

    tenant_id: str | None
    """Its tenant, if the same file holds the Namespace whose label decides it."""

    revision: str
    """Revision of its documents."""

    prompt: str
    """The system prompt, exactly as models get it."""

    prompt_sha256: str
    """Hash of the prompt, as replies carry it."""

    transparency_clause: str
    """Version of the AI transparency clause, the prompt's end."""

    group: str
    """Model group that is asked for."""

    on_fallback: str
    """What it allows when that group cannot answer."""

    suspended: bool
    """Whether it is switched off."""

    identity_json: str
    """Identity document, byte for byte."""

    persona_json: str
    """Persona document, byte for byte."""


def run(
    file: str, *, agent: str | None, cluster: Cluster | None, prompt_only: bool, as_json: bool
) -> ExitCode:
    """Render the Agents in `file` (``-``: standard input) or the Agent of that name in `cluster`."""
    rendered = render_text(_read(file), file) if cluster is None else [_stored(file, cluster)]
    if agent is not None:
        rendered = [one for one in rendered if one.agent == agent]
    if not rendered:
        what = "no Agent" if agent is None else f"no Agent called {agent}"
        raise UsageError(f"{file}: {what} in it; an Agent has `kind: Agent` (see examples/agents)")
    if as_json:
        emit_json({"agents": [one.model_dump(mode="json") for one in rendered]})
    elif prompt_only:
        if len(rendered) > 1:
            raise UsageError(f"{file} holds {len(rendered)} agents; choose one with --agent for --prompt")
        sys.stdout.write(rendered[0].prompt)
    else:
        for one in rendered:
            _show(one)
    return ExitCode.OK


def render_text(text: str, where: str) -> list[RenderedAgent]:
    """Render every Agent of a YAML text.

    Raises:
        ManifestError: it is not valid; the message begins with `where`.
    """
    try:
        manifests = load_manifests(text)
    except ManifestError as error:
        raise ManifestError(f"{where}: {error}") from None
    tenants = {
        manifest.metadata.name: manifest.tenant_id
        for manifest in manifests
        if isinstance(manifest, Namespace)
    }
    return [
        _render(manifest, tenants.get(manifest.metadata.namespace))
        for manifest in manifests
        if isinstance(manifest, Agent)
    ]


def _render(agent: Agent, tenant_id: str | None) -> RenderedAgent:
    metadata = agent.metadata
    documents = render(agent.spec)
    return _describe(metadata.namespace, metadata.name, tenant_id, documents, suspended=agent.spec.suspended)


def _stored(name: str, cluster: Cluster) -> RenderedAgent:
    # A file needs neither of them.
    import asyncio  # noqa: PLC0415

    from konstruct_cli.cluster.stored import active_revision  # noqa: PLC0415

    agent, documents = asyncio.run(active_revision(cluster, name))
    try:
        return _describe(agent.namespace, agent.name, agent.tenant_id, documents, suspended=agent.suspended)
    except DocumentError as error:
        raise CliError(f"Agent {name} is not what its operator wrote: {error}") from None


def _describe(
    namespace: str, name: str, tenant_id: str | None, documents: Rendered, *, suspended: bool
) -> RenderedAgent:
    # From the documents, as workers read them, not from the spec.
    loaded = load(documents.identity_json, documents.persona_json, documents.revision)
    prompt = system_prompt(loaded)
    return RenderedAgent(
        agent=name,
        namespace=namespace,
        tenant_id=tenant_id,
        revision=documents.revision,
        prompt=prompt,
        prompt_sha256=prompt_sha256(prompt),
        transparency_clause=TRANSPARENCY_CLAUSE_VERSION,
        group=loaded.persona.model.group,
        on_fallback=loaded.persona.on_fallback.value,
        suspended=suspended,
        identity_json=documents.identity_json,
        persona_json=documents.persona_json,
    )


def _read(file: str) -> str:
    try:
        if file == "-":
            return sys.stdin.read(MAX_MANIFEST_BYTES + 1)
        with Path(file).open(encoding="utf-8") as stream:
            return stream.read(MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        raise UsageError(
            f"{file}: {error.strerror}; name a file of manifests, or - for standard input"
        ) from None
    except UnicodeDecodeError:
        raise UsageError(f"{file} is not UTF-8 text") from None


def _show(one: RenderedAgent) -> None:
    tenant = one.tenant_id or f"decided by the label of namespace {one.namespace}"
    emit(f"agent       {one.agent}")
    emit(f"tenant      {tenant}")
    emit(f"revision    {one.revision}")
    emit(f"model       group {one.group}, on fallback: {one.on_fallback}")
    emit(f"prompt      sha256 {one.prompt_sha256}, transparency clause {one.transparency_clause}")
    if one.suspended:
        emit("suspended   yes: messages to it fail")
    emit(f"\n--- prompt ---\n{one.prompt}")
    emit(f"--- identity document ---\n{one.identity_json.rstrip()}")
    emit(f"--- persona document ---\n{one.persona_json}")
