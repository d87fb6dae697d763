"""Reading what a cluster serves for an Agent: the documents of its active revision."""

from __future__ import annotations

from konstruct_cli.cluster.access import connected
from konstruct_cli.cluster.target import Cluster
from konstruct_cli.errors import CliError, UsageError
from shared.kube.client import KubeClient
from shared.kube.documents import read_document
from shared.kube.errors import NotFoundError
from shared.kube.names import IDENTITY, PERSONA, agent_path
from shared.kube.objects import ConditionType, StoredAgent
from shared.persona import DocumentError, Rendered

TRIES = 3
"""Readings before giving up on a revision that is replaced and pruned meanwhile."""


async def active_revision(cluster: Cluster, name: str) -> tuple[StoredAgent, Rendered]:
    """Read the active documents of the Agent `name`.

    Raises:
        CliError: there is no such Agent, nothing of it is active, or the rights to read it are missing.
    """
    async with connected(cluster) as client:
        for _ in range(TRIES - 1):
            try:
                return await _read(client, cluster.namespace, name)
            except NotFoundError:
                continue
        return await _read(client, cluster.namespace, name)


async def _read(client: KubeClient, namespace: str, name: str) -> tuple[StoredAgent, Rendered]:
    try:
        agent = StoredAgent.of(await client.get(agent_path(namespace, name)))
    except NotFoundError:
        raise UsageError(
            f"there is no Agent {name} in namespace {namespace}; "
            "`kubectl get agents --all-namespaces` lists them"
        ) from None
    revision = agent.active_revision
    if revision is None:
        accepted = agent.condition(ConditionType.ACCEPTED) or {}
        raise UsageError(
            f"Agent {name} has no active revision: {accepted.get('message', 'no operator has seen it yet')}"
        )
    try:
        identity, persona = [
            await read_document(client, namespace, name, part, revision) for part in (IDENTITY, PERSONA)
        ]
    except DocumentError as error:
        raise CliError(f"revision {revision} cannot be read: {error}") from None
    return agent, Rendered(identity_json=identity, persona_json=persona, revision=revision)
