"""A thin client of the Kubernetes API: plain objects in and out, the package's errors, explicit timeouts.

Authentication and TLS are the ``kubernetes`` package's (``kubernetes.aio``); its typed models are left
out, since an Agent has none and building one per event would cost more than the event.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio.client.configuration import Configuration

from shared.kube.connections import Connections, authorization, connections_of, load_configuration
from shared.kube.errors import TooLongError, UnauthorizedError, UnreachableError, error_for
from shared.kube.objects import Object, as_yaml
from shared.kube.refusals import unquoted, words_of
from shared.kube.streams import LONGEST_PAGE, lines, whole

Collection = tuple[list[Object], str]
"""The objects of a collection, and the resource version at which they were read."""

JSON = "application/json"
"""Form of requests and answers."""

APPLY = "application/apply-patch+yaml; charset=utf-8"
"""Form of an apply. Without its charset the ``kubernetes`` package writes JSON, which is not always YAML."""

METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
"""Form of a list whose objects have nothing but their metadata."""

Slim = Callable[[Object], Object]
"""Takes what nobody reads off an object, before the next page comes."""

PAGE = 500
"""Objects in one page of a list, as long as they are of a usual size."""

REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=15, connect=5)
"""Longest that a request other than a watch may take."""

WATCH_SECONDS = 10
"""Seconds after which the API server ends a watch; a new one goes on from there, over the same connection.

So a healthy watch is never silent for longer, whether anything changes or not (ADR 17).
"""

SILENCE_S = WATCH_SECONDS + 3
"""Seconds after which a watch without a word is dead, whatever acknowledges its bytes."""

WATCH_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=5, sock_read=SILENCE_S)
"""Bounds of a watch."""

_NO_JSON = (ValueError, RecursionError, LookupError, TypeError, AttributeError)
"""What reading raises that is no JSON, or has another form: something in the API server's place wrote it."""


def without_managed_fields(item: Object) -> Object:
    """Drop what nobody reads and what makes up half of an object."""
    item["metadata"].pop("managedFields", None)
    return item


class KubeClient:
    """Speaks to one API server, from one event loop."""

    def __init__(self, kubeconfig: Path | None = None, *, context: str | None = None) -> None:
        """With `kubeconfig`, use that file and its `context`; without, the Pod's own ServiceAccount."""
        self._kubeconfig = kubeconfig
        self._context = context
        self._configuration: Configuration | None = None
        self._connections: Connections | None = None
        self._opening = asyncio.Lock()

    async def close(self) -> None:
        """Close every connection."""
        connections, self._connections = self._connections, None
        if connections is not None:
            await connections.close()

    async def get(self, path: str, *, cached: bool = False) -> Object:
        """Read one object; `cached` spares etcd the question, and may answer with what was there before.

        Raises:
            KubeError: the API server did not answer with it.
        """
        return _whole(path, await self._request("GET", path, {"resourceVersion": "0"} if cached else None))

    async def list(
        self, path: str, *, label_selector: str | None = None, slim: Slim = without_managed_fields
    ) -> Collection:
        """Read a whole collection, in pages of one snapshot, and the snapshot's resource version.

        Raises:
            KubeError: the API server did not answer with it; ExpiredError: it changed too much meanwhile.
        """
        return await self._pages(path, _selecting(label_selector), JSON, slim)

    async def list_metadata(self, path: str, *, slim: Slim = without_managed_fields) -> Collection:
        """Read a whole collection as ``list`` does, of each object the metadata alone."""
        return await self._pages(path, {}, METADATA, slim)

    async def _pages(self, path: str, query: dict[str, str], accept: str, slim: Slim) -> Collection:
        items = []
        limit = PAGE
        while True:
            query["limit"] = str(limit)
            try:
                page = await self._request("GET", path, query, accept=accept)
            except TooLongError:
                if limit == 1:
                    raise
                limit = max(limit // 10, 1)  # somebody's objects are large
                continue
            limit = min(limit * 2, PAGE)
            try:
                items += [slim(item) for item in page["items"] or ()]
                metadata = page["metadata"]
                version, more = str(metadata["resourceVersion"]), metadata.get("continue")
            except _NO_JSON as error:
                raise UnreachableError(f"GET {path}: an answer that is no list") from error
            if not more:
                return items, version
            query["continue"] = str(more)

    async def watch(
        self,
        path: str,
        resource_version: str,
        *,
        label_selector: str | None = None,
        slim: Slim = without_managed_fields,
    ) -> AsyncIterator[tuple[str, Object]]:
        """Open a watch of a collection from `resource_version`, for (type, object) pairs, bookmarks too.

        It ends when the API server ends it, after about ``WATCH_SECONDS``.

        Raises:
            ExpiredError: the resource version is too old; list again (now, or while it is followed).
            KubeError: the watch cannot be opened, or broke while it was followed.
        """
        query = _selecting(label_selector) | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        return _events(path, await self._send("GET", path, query, timeout=WATCH_TIMEOUT), slim)

    async def apply(self, path: str, manifest: Object, field_manager: str) -> Object:
        """Server-side apply `manifest`, taking over fields that others own; returns the stored object."""
        query = {"fieldManager": field_manager, "force": "true"}
        sending = self._request("PATCH", path, query, body=as_yaml(manifest), content_type=APPLY)
        return _whole(path, await sending)

    async def create(self, path: str, manifest: Object, field_manager: str | None = None) -> Object:
        """Create an object in the collection at `path`.

        Raises:
            ConflictError: there is one of that name.
        """
        query = {"fieldManager": field_manager} if field_manager else None
        return _whole(path, await self._request("POST", path, query, body=manifest))

    async def delete(self, path: str, *, uid: str | None = None) -> None:
        """Delete an object; with `uid`, only if it is still that one (else ConflictError)."""
        body = {"preconditions": {"uid": uid}} if uid else None
        await self._request("DELETE", path, body=body)

    async def websocket(
        self, path: str, query: Iterable[tuple[str, str]], protocol: str
    ) -> aiohttp.ClientWebSocketResponse:
        """Open a websocket that speaks `protocol`, as pods/exec wants it; the caller closes it.

        Raises:
            KubeError: the API server did not open it.
        """
        configuration, connections = await self._open()
        url = f"{configuration.host}{path}?{urlencode(list(query))}"
        try:
            return await connections.websocket(url, await authorization(configuration), protocol)
        except aiohttp.WSServerHandshakeError as error:
            raise error_for(error.status, f"websocket {path}: {error.message}") from error
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise UnreachableError(f"websocket {path}: {type(error).__name__}") from error

    async def _request(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        *,
        body: Object | str | None = None,
        content_type: str = JSON,
        accept: str = JSON,
    ) -> Object:
        sending = self._send(method, path, query, body=body, content_type=content_type, accept=accept)
        response = await sending
        try:
            answer: Object = json.loads(await whole(response, LONGEST_PAGE))
        except (TimeoutError, aiohttp.ClientError, OSError, *_NO_JSON) as error:
            raise UnreachableError(f"{method} {path}: {type(error).__name__}") from error
        if not isinstance(answer, dict):
            raise UnreachableError(f"{method} {path}: an answer that is no object")
        return answer

    async def _send(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        *,
        body: Object | str | None = None,
        content_type: str = JSON,
        accept: str = JSON,
        timeout: aiohttp.ClientTimeout = REQUEST_TIMEOUT,  # noqa: ASYNC109 - given on to aiohttp
    ) -> aiohttp.ClientResponse:
        """Send a request; a refused token is read anew once, since a new one may lie there already."""
        headers = {"Accept": accept, "Content-Type": content_type}
        try:
            return await self._send_once(method, path, query, body, headers, timeout)
        except UnauthorizedError:
            await self.close()
            return await self._send_once(method, path, query, body, headers, timeout)

    async def _send_once(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None,
        body: Object | str | None,
        headers: dict[str, str],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - given on to aiohttp
    ) -> aiohttp.ClientResponse:
        configuration, connections = await self._open()
        try:
            headers |= await authorization(configuration)
            url = f"{configuration.host}{path}?{urlencode(query or {})}"
            answer = await connections.request(  # type: ignore[no-untyped-call]
                method, url, headers=headers, body=body, _request_timeout=timeout
            )
            response: aiohttp.ClientResponse = answer.response
            if response.status < 400:
                return response
            text = await response.text()
        # ValueError: a token that is no header, an answer that is no text.
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            raise UnreachableError(f"{method} {path}: {type(error).__name__}") from error
        raise error_for(response.status, f"{method} {path}: {words_of(text, _authorization(response))}")

    async def _open(self) -> tuple[Configuration, Connections]:
        async with self._opening:
            if self._configuration is None or self._connections is None:
                made = await load_configuration(self._kubeconfig, self._context)
                self._configuration, self._connections = made, connections_of(made)
            return self._configuration, self._connections


async def _events(
    path: str, response: aiohttp.ClientResponse, slim: Slim
) -> AsyncIterator[tuple[str, Object]]:
    try:
        async for line in lines(response.content):
            event = json.loads(line)
            kind, item = event["type"], event["object"]
            if kind == "ERROR":
                message = unquoted(str(item.get("message", "")), _authorization(response))
                raise error_for(int(item.get("code", 500)), message)
            yield kind, slim(item)
    except (TimeoutError, aiohttp.ClientError, OSError, *_NO_JSON) as error:
        raise UnreachableError(f"the watch of {path} broke: {type(error).__name__}") from error
    finally:
        connection = response.connection
        if connection is not None and connection.transport is not None:
            # A polite end would wait for the other side, which may be why the watch is left.
            connection.transport.abort()
        response.close()


def _selecting(label_selector: str | None) -> dict[str, str]:
    return {"labelSelector": label_selector} if label_selector else {}


def _whole(path: str, answer: Object) -> Object:
    """Return the answer if it is an object that is stored: a Status is none."""
    metadata = answer.get("metadata")
    if isinstance(metadata, dict) and metadata.keys() >= {"name", "uid", "resourceVersion"}:
        return answer
    raise UnreachableError(f"{path}: an answer that is no stored object")


def _authorization(response: aiohttp.ClientResponse) -> str:
    return response.request_info.headers.get("authorization", "")
