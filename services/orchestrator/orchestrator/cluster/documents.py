"""Reading the documents of a revision from its ConfigMaps, and refusing what is not it."""

from __future__ import annotations

from orchestrator.agents.catalog import ServedAgent
from orchestrator.cluster.claims import Claim
from shared.kube.client import KubeClient
from shared.kube.documents import read_document
from shared.kube.errors import (
    ForbiddenError,
    KubeError,
    NotFoundError,
    UnauthorizedError,
    UnreachableError,
)
from shared.kube.names import IDENTITY, PERSONA, config_map_name
from shared.persona import DocumentError, Rendered


class RefusedError(Exception):
    """The revision cannot be put in effect; the message says why."""


async def load(client: KubeClient, claim: Claim) -> ServedAgent:
    """Read the revision that `claim` asks for and check it against its hash.

    Raises:
        RefusedError: a document is missing or not what the revision says, or its form is not known here.
        KubeError: the API server does not answer; nothing is known of the revision.
    """
    try:
        # A revision is its documents' hash: what the API server remembers is as good as what etcd has.
        return await _load(client, claim, cached=True)
    except RefusedError:
        return await _load(client, claim, cached=False)


async def _load(client: KubeClient, claim: Claim, *, cached: bool) -> ServedAgent:
    try:
        documents = Rendered(
            identity_json=await _read(client, claim, IDENTITY, cached=cached),
            persona_json=await _read(client, claim, PERSONA, cached=cached),
            revision=claim.revision,
        )
        return ServedAgent.of(claim.key, documents, suspended=claim.suspended)
    except DocumentError as error:
        raise RefusedError(str(error)) from error


async def _read(client: KubeClient, claim: Claim, part: str, *, cached: bool) -> str:
    name = config_map_name(claim.key[1], part, claim.revision)
    try:
        return await read_document(client, claim.namespace, claim.key[1], part, claim.revision, cached=cached)
    except NotFoundError:
        raise RefusedError(f"there is no ConfigMap {name}") from None
    except ForbiddenError:
        raise RefusedError(f"the worker may not read ConfigMap {name}") from None
    except (UnreachableError, UnauthorizedError):
        raise
    except KubeError as error:  # of this one alone: the others are not held up by it
        raise RefusedError(f"ConfigMap {name} cannot be read: {error}") from None
