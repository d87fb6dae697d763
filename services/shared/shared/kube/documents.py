"""Reading the documents of a revision from their ConfigMaps."""

from __future__ import annotations

from shared.kube.client import KubeClient
from shared.kube.names import config_map_name, config_map_path, document_key
from shared.persona import DocumentError


async def read_document(
    client: KubeClient, namespace: str, agent: str, part: str, revision: str, *, cached: bool = False
) -> str:
    """Read one part of a revision of an Agent, as it is stored: nothing is checked against the revision.

    `cached` may give what was there before: for a reader that checks it, and asks again when it is wrong.

    Raises:
        DocumentError: the ConfigMap holds no such document.
        KubeError: it cannot be read; NotFoundError: it is not there.
    """
    name = config_map_name(agent, part, revision)
    found = await client.get(config_map_path(namespace, name), cached=cached)
    data = found.get("data")
    text = data.get(document_key(part)) if isinstance(data, dict) else None
    if not isinstance(text, str):
        raise DocumentError(f"ConfigMap {name} has no {document_key(part)}")
    return text
