"""The rendered ConfigMaps that the cluster holds: a forged or missing one is noticed at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from konstruct_operator.config_maps import SELECTOR, KnownConfigMap, fingerprint_alone, owner_of
from shared.kube.client import KubeClient
from shared.kube.names import config_maps_path
from shared.kube.objects import AgentRef, Object
from shared.kube.watch import Change, Follower

Followed = dict[str | None, tuple["RenderedSink", Follower]]
"""What follows the ConfigMaps of each namespace, or under None of the cluster."""


MOST_OF_ONE = 1000
"""ConfigMaps that are known of one Agent; when somebody makes more of its names, the oldest is forgotten."""


class RenderedStore:
    """What is known of every rendered ConfigMap, by Agent."""

    def __init__(self) -> None:
        self._known: dict[AgentRef, dict[str, KnownConfigMap]] = {}

    def of(self, ref: AgentRef) -> tuple[KnownConfigMap, ...]:
        """Return what the cluster holds for an Agent."""
        return tuple(self._known.get(ref, {}).values())

    def holds(self, namespace: str, name: str) -> bool:
        """Whether the cluster holds a ConfigMap of that name."""
        ref = owner_of(namespace, name)
        return ref is not None and name in self._known.get(ref, {})

    def places(self, namespace: str | None) -> set[tuple[str, str]]:
        """Give namespace and name of every ConfigMap of `namespace`, or of all."""
        return {
            (where, name)
            for (where, _), known in self._known.items()
            if namespace in (None, where)
            for name in known
        }

    def put(self, item: Object) -> bool:
        """Take in a ConfigMap; True when that changed anything that matters."""
        metadata = item["metadata"]
        ref = owner_of(metadata["namespace"], metadata["name"])
        if ref is None:
            return False
        found = KnownConfigMap.of(item)
        before = self._known.get(ref, {}).get(found.name)
        if before is not None and before.resource_version >= found.resource_version:
            return False
        known = self._known.setdefault(ref, {})
        known[found.name] = found
        if len(known) > MOST_OF_ONE:  # what is missing then is written again
            del known[next(iter(known))]
        return before is None or (before.uid, before.fingerprint) != (found.uid, found.fingerprint)

    def remove(self, namespace: str, name: str, resource_version: int | None = None) -> bool:
        """Take in that a ConfigMap is gone; True when it was known, and not made anew since."""
        ref = owner_of(namespace, name)
        known = self._known.get(ref, {}) if ref is not None else {}
        if ref is None or name not in known:
            return False
        if resource_version is not None and known[name].resource_version > resource_version:
            return False
        del known[name]
        if not known:
            del self._known[ref]
        return True


class RenderedSink:
    """Gives the ConfigMaps of one followed collection, of `namespace` or of all, to the store."""

    def __init__(
        self, store: RenderedStore, namespace: str | None, concerned: Callable[[AgentRef], None]
    ) -> None:
        self._store = store
        self._namespace = namespace
        self._concerned = concerned
        self.complete = asyncio.Event()
        """Set once a complete list was taken in."""

    async def replaced(self, objects: list[Object], resource_version: str) -> None:
        """Take in a complete list: what is not in it is gone."""
        listed = {(item["metadata"]["namespace"], item["metadata"]["name"]) for item in objects}
        for namespace, name in self._store.places(self._namespace) - listed:
            self._gone(namespace, name, int(resource_version))
        for item in objects:
            self._put(item)
        self.complete.set()

    async def changed(self, changes: list[Change], resource_version: str) -> None:  # noqa: ARG002 - of Sink
        """Take in changes."""
        for change in changes:
            metadata = change.object["metadata"]
            if change.type == "DELETED":
                self._gone(metadata["namespace"], metadata["name"], int(metadata["resourceVersion"]))
            else:
                self._put(change.object)

    def _put(self, item: Object) -> None:
        if self._store.put(item):
            self._tell(item["metadata"]["namespace"], item["metadata"]["name"])

    def _gone(self, namespace: str, name: str, resource_version: int) -> None:
        if self._store.remove(namespace, name, resource_version):
            self._tell(namespace, name)

    def _tell(self, namespace: str, name: str) -> None:
        ref = owner_of(namespace, name)
        if ref is not None:
            self._concerned(ref)


def follow(
    client: KubeClient,
    scopes: Iterable[str | None],
    store: RenderedStore,
    concerned: Callable[[AgentRef], None],
) -> Followed:
    """Prepare to follow the rendered ConfigMaps of each scope; `concerned` gets each Agent they are of."""
    followed: Followed = {}
    for scope in scopes:
        sink = RenderedSink(store, scope, concerned)
        path = config_maps_path(scope)
        follower = Follower(client, path, sink, label_selector=SELECTOR, slim=fingerprint_alone)
        followed[scope] = sink, follower
    return followed
