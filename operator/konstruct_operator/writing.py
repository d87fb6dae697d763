"""The only place that writes for an Agent: its ConfigMaps, its status, and what is pruned."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from konstruct_operator.config_maps import KnownConfigMap, fingerprint
from konstruct_operator.rendered import RenderedStore
from shared.kube.client import KubeClient
from shared.kube.errors import ConflictError, InvalidError, KubeError, NotFoundError
from shared.kube.names import (
    FIELD_MANAGER,
    GROUP,
    VERSION,
    agent_path,
    agent_status_path,
    config_map_path,
    config_maps_path,
)
from shared.kube.objects import Object, StoredAgent


class Writer:
    """Writes under one field manager: by server-side apply, and what is most likely new by a plain create."""

    def __init__(self, client: KubeClient, rendered: RenderedStore) -> None:
        self._client = client
        self._rendered = rendered

    async def still_there(self, agent: StoredAgent) -> bool:
        """Ask whether `agent` is there and not going: two watches do not keep each other's order."""
        try:
            metadata = (await self._client.get(agent_path(*agent.ref)))["metadata"]
        except NotFoundError:
            return False
        return metadata["uid"] == agent.uid and "deletionTimestamp" not in metadata

    async def put(self, manifests: tuple[Object, ...]) -> None:
        """Write ConfigMaps."""
        await asyncio.gather(*(self._put(manifest) for manifest in manifests))

    async def status(self, agent: StoredAgent, status: Object) -> Object:
        """Write the whole status; returns the Agent as stored then.

        Raises:
            ConflictError: there is another Agent of that name by now.
            NotFoundError: there is none.
        """
        manifest = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "Agent",
            "metadata": {"name": agent.name, "namespace": agent.namespace, "uid": agent.uid},
            "status": status,
        }
        return await self._client.apply(agent_status_path(*agent.ref), manifest, FIELD_MANAGER)

    async def prune(self, namespace: str, old: tuple[KnownConfigMap, ...]) -> None:
        """Delete ConfigMaps that are known."""
        for known in old:
            with suppress(NotFoundError, ConflictError):  # gone, or made anew by somebody
                await self._client.delete(config_map_path(namespace, known.name), uid=known.uid)
            self._rendered.remove(namespace, known.name)

    async def _put(self, manifest: Object) -> None:
        metadata = manifest["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        path = config_map_path(namespace, name)
        wanted = fingerprint(manifest)
        stored: Object | None = None
        if not self._rendered.holds(namespace, name):
            with suppress(ConflictError):  # there is one that has lost its label
                stored = await self._client.create(config_maps_path(namespace), manifest, FIELD_MANAGER)
        if stored is None:
            with suppress(InvalidError):  # an immutable one holds something else
                stored = await self._client.apply(path, manifest, FIELD_MANAGER)
        if stored is None or fingerprint(stored) != wanted:
            with suppress(NotFoundError):
                await self._client.delete(path)
            stored = await self._client.apply(path, manifest, FIELD_MANAGER)
            if fingerprint(stored) != wanted:
                raise KubeError(
                    f"ConfigMap {name} does not stay as it is written; look for an admission "
                    "webhook that changes ConfigMaps"
                )
        self._rendered.put(stored)
