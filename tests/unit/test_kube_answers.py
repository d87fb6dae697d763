"""What something in the API server's place may say: the client refuses it in words of its own."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from shared.kube.client import PAGE, KubeClient
from shared.kube.documents import read_document
from shared.kube.errors import ExpiredError, InvalidError, TooLongError, UnreachableError
from shared.kube.objects import Object
from shared.kube.streams import LONGEST_EVENT
from shared.kube.watch import Change, Follower
from shared.persona import DocumentError
from tests.support.false_api import FalseApi, false_api

TOKEN = "canary-token-of-a-kubeconfig"
TEXT = "very private: instruction"


@pytest.fixture(scope="module")
def api() -> Iterator[FalseApi]:
    with false_api() as made:
        yield made


@pytest.fixture
def kubeconfig(api: FalseApi, tmp_path: Path) -> Path:
    return api.kubeconfig(tmp_path / "kubeconfig", TOKEN)


def ask(kubeconfig: Path, question: Callable[[KubeClient], Awaitable[Any]]) -> Any:
    async def once() -> Any:
        client = KubeClient(kubeconfig)
        try:
            async with asyncio.timeout(20):
                return await question(client)
        finally:
            await client.close()

    return asyncio.run(once())


async def events(client: KubeClient) -> list[tuple[str, Object]]:
    return [event async for event in await client.watch("/apis/things", "1")]


GOOD = {"metadata": {"resourceVersion": "7"}, "items": [{"metadata": {"name": "ada"}}]}

NO_LISTS: dict[str, Any] = {
    "nothing": {},
    "no items": {"metadata": {"resourceVersion": "7"}},
    "no metadata": {"items": []},
    "metadata null": {"metadata": None, "items": []},
    "metadata text": {"metadata": "7", "items": []},
    "no version": {"metadata": {}, "items": []},
    "items a number": {**GOOD, "items": 7},
    "items a text": {**GOOD, "items": "ada"},
    "items of texts": {**GOOD, "items": ["ada"]},
    "items of nothing": {**GOOD, "items": [None]},
    "an item without metadata": {**GOOD, "items": [{}]},
    "an item's metadata null": {**GOOD, "items": [{"metadata": None}]},
    "one object": {"metadata": {"name": "ada", "resourceVersion": "7"}, "spec": {}},
}


@pytest.mark.parametrize("name", NO_LISTS)
def test_what_is_no_list_is_refused_in_words(api: FalseApi, kubeconfig: Path, name: str) -> None:
    api.always(NO_LISTS[name])
    with pytest.raises(UnreachableError, match="GET /apis/things: an answer that is no list"):
        ask(kubeconfig, lambda client: client.list("/apis/things"))
    with pytest.raises(UnreachableError, match="an answer that is no list"):
        ask(kubeconfig, lambda client: client.list_metadata("/apis/things"))


def test_an_empty_list_may_have_null_for_items(api: FalseApi, kubeconfig: Path) -> None:
    api.always({**GOOD, "items": None})
    assert ask(kubeconfig, lambda client: client.list("/apis/things")) == ([], "7")
    api.always(GOOD)
    assert ask(kubeconfig, lambda client: client.list("/apis/things")) == (GOOD["items"], "7")


STORED = {"name": "ada", "uid": "0f", "resourceVersion": "7"}

NO_OBJECTS = {
    "nothing": b"",
    "no JSON": b"<html>Welcome",
    "no Unicode": b'"\xff"',
    "deep": b"[" * 100_000,
    "a list": b"[]",
    "null": b"null",
    "a text": b'"ada"',
    "a Status": b'{"kind": "Status", "metadata": {}, "status": "Success"}',
    "metadata null": b'{"kind": "Lease", "metadata": null}',
}


@pytest.mark.parametrize("name", NO_OBJECTS)
def test_what_is_no_object_is_refused_in_words(api: FalseApi, kubeconfig: Path, name: str) -> None:
    api.always(NO_OBJECTS[name])
    with pytest.raises(UnreachableError, match="/apis/things/ada: "):
        ask(kubeconfig, lambda client: client.get("/apis/things/ada"))
    with pytest.raises(UnreachableError, match="/apis/things: "):
        ask(kubeconfig, lambda client: client.create("/apis/things", {}))
    with pytest.raises(UnreachableError, match="/apis/things/ada: "):
        ask(kubeconfig, lambda client: client.apply("/apis/things/ada", {}, "somebody"))


NO_EVENTS = {
    "no JSON": b"<html>\n",
    "deep": b"[" * 100_000 + b"\n",
    "a list": b"[]\n",
    "null": b"null\n",
    "no type": b'{"object": {}}\n',
    "no object": b'{"type": "ADDED"}\n',
    "object a text": b'{"type": "ADDED", "object": "ada"}\n',
    "metadata null": b'{"type": "ADDED", "object": {"metadata": null}}\n',
    "metadata a list": b'{"type": "ADDED", "object": {"metadata": []}}\n',
    "an error without a number": b'{"type": "ERROR", "object": {"code": "soon"}}\n',
    "an error with a list for a number": b'{"type": "ERROR", "object": {"code": []}}\n',
}


@pytest.mark.parametrize("name", NO_EVENTS)
def test_a_watch_that_says_something_else_breaks_in_words(api: FalseApi, kubeconfig: Path, name: str) -> None:
    api.always(NO_EVENTS[name])
    with pytest.raises(UnreachableError, match="the watch of /apis/things broke: "):
        ask(kubeconfig, events)


def test_a_watch_tells_the_servers_own_errors(api: FalseApi, kubeconfig: Path) -> None:
    api.always(b'{"type": "ERROR", "object": {"code": 410, "message": "too old"}}\n')
    with pytest.raises(ExpiredError, match="410: too old"):
        ask(kubeconfig, events)
    api.always(b'{"type": "ERROR", "object": {}}\n')
    with pytest.raises(UnreachableError, match="500"):
        ask(kubeconfig, events)


STRANGE_CHANGES = {**NO_EVENTS, "no version": b'{"type": "ADDED", "object": {"metadata": {}}}\n'}


@pytest.mark.parametrize("name", STRANGE_CHANGES)
def test_whoever_follows_outlives_it(api: FalseApi, kubeconfig: Path, name: str) -> None:
    """Its reader ends with an error that nobody waits for: the follower must not wait for more."""
    good = {"type": "ADDED", "object": {"metadata": {"name": "ada", "resourceVersion": "8"}}}
    watches = iter([STRANGE_CHANGES[name], json.dumps(good).encode() + b"\n"])
    last = b""

    def say(path: str, *_: object) -> tuple[int, bytes]:
        return (200, next(watches, last)) if "watch=true" in path else (200, json.dumps(GOOD).encode())

    api.say = say
    taken: asyncio.Queue[list[Change]] = asyncio.Queue()

    class Sink:
        async def replaced(self, objects: list[Object], resource_version: str) -> None:
            assert (objects, resource_version) == (GOOD["items"], "7")

        async def changed(self, changes: list[Change], resource_version: str) -> None:
            if resource_version == "8":
                taken.put_nowait(changes)

    async def follow(client: KubeClient) -> list[Change]:
        following = asyncio.create_task(Follower(client, "/apis/things", Sink()).run())
        try:
            return await taken.get()
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    assert [change.object for change in ask(kubeconfig, follow)] == [good["object"]]


@pytest.mark.parametrize("data", [None, [], ["persona.json"], "persona.json", {}, {"persona.json": {}}, 7])
def test_a_config_map_without_the_document_is_none(api: FalseApi, kubeconfig: Path, data: Any) -> None:
    api.always({"metadata": STORED, "data": data})
    with pytest.raises(DocumentError, match=r"has no persona\.json"):
        ask(kubeconfig, lambda client: read_document(client, "acme", "ada", "persona", "0f"))


def refusal(message: str) -> str:
    return json.dumps({"kind": "Status", "message": message})


QUOTING = {
    "its own token": (refusal(f"who is {TOKEN}?"), "who is ***?"),
    "a page": (f"<html>authorization: Bearer {TOKEN} and a {TEXT}", "an answer that is no Status"),
    "another JSON": (json.dumps({"kind": "Echo", "message": TOKEN}), "an answer that is no Status"),
    "nothing": ("", "an answer that is no Status"),
    "a choice": (
        refusal(f'spec.onFallback: Unsupported value: "{TEXT}": supported values: "allow"'),
        'spec.onFallback: Unsupported value: …: supported values: "allow"',
    ),
    "a text with quotes": (
        refusal(f'a: Invalid value: "x\\"{TEXT}\\"\\\\": too long, b: Invalid value: "{TEXT}": too short'),
        "a: Invalid value: …: too long, b: Invalid value: …: too short",
    ),
    "an object": (
        refusal(f'a: Invalid value: {{"k":"{TEXT}"}}: no, b: Duplicate value: {{"k":"{TEXT}"}}'),
        "a: Invalid value: …: no, b: Duplicate value: …",
    ),
    "what is no map": (
        refusal(f".spec.persona: expected map, got &{{{TEXT}\n}}"),
        ".spec.persona: expected map, got &…",
    ),
    "twice the same": (refusal(f'duplicate entries for key ["{TEXT}"]'), "duplicate entries for key …"),
}


@pytest.mark.parametrize("name", QUOTING)
def test_a_refusal_is_told_without_what_it_quotes(api: FalseApi, kubeconfig: Path, name: str) -> None:
    body, told = QUOTING[name]
    api.always(body.encode(), 422)
    with pytest.raises(InvalidError) as refused:
        ask(kubeconfig, lambda client: client.get("/apis/things/ada"))
    assert str(refused.value) == f"422: GET /apis/things/ada: {told}"


def test_so_is_the_error_of_a_watch(api: FalseApi, kubeconfig: Path) -> None:
    said = {"type": "ERROR", "object": {"code": 500, "message": f'{TOKEN}: Invalid value: "{TEXT}"'}}
    api.always(json.dumps(said).encode() + b"\n")
    with pytest.raises(UnreachableError) as refused:
        ask(kubeconfig, events)
    assert str(refused.value) == "500: ***: Invalid value: …"


@pytest.mark.parametrize(
    "text",
    [
        "\U0001f600",
        '\\"\U0001f600\\',
        r"\ud83d\ude00",
        "\x85\u2028\u2029",
        "\ufeff\uffff\U0010ffff",
        "\x7f\n\t\0",
    ],
)
def test_an_apply_is_yaml_whatever_it_says(api: FalseApi, kubeconfig: Path, text: str) -> None:
    sent: list[bytes] = []

    def say(_: str, __: object, body: bytes) -> tuple[int, bytes]:
        sent.append(body)
        return 200, json.dumps({"metadata": STORED}).encode()

    api.say = say
    manifest = {"data": {"persona.json": text}, text: [text, None, 1.5, True]}
    ask(kubeconfig, lambda client: client.apply("/apis/things/ada", manifest, "somebody"))
    assert yaml.safe_load(sent[0]) == manifest
    assert not re.search(rb"(?<!\\)\\ud[89a-f]", sent[0])  # which the YAML of an API server has not


def test_a_page_that_is_too_long_is_asked_for_in_smaller_ones(api: FalseApi, kubeconfig: Path) -> None:
    """Of 500 objects each may have 1.5 MiB: nobody is to hold a page of them."""
    stored = [{"metadata": {"name": f"{number}"}, "data": "x" * 2**20} for number in range(40)]
    limits: list[int] = []

    def say(path: str, *_: Any) -> tuple[int, bytes]:
        query = parse_qs(urlsplit(path).query)
        limits.append(int(query["limit"][0]))
        begin = int(query.get("continue", ["0"])[0])
        end = min(begin + limits[-1], len(stored))
        metadata = {"resourceVersion": "7", "continue": str(end) if end < len(stored) else ""}
        return 200, json.dumps({"metadata": metadata, "items": stored[begin:end]}).encode()

    api.say = say
    found, _ = ask(kubeconfig, lambda client: client.list("/apis/things", slim=lambda item: item["metadata"]))
    assert found == [item["metadata"] for item in stored]
    assert limits[:3] == [PAGE, PAGE // 10, PAGE // 100]
    assert all(limit <= 20 for limit in limits[3:])


def test_an_event_of_a_watch_may_be_as_long_as_an_object(api: FalseApi, kubeconfig: Path) -> None:
    """1 MiB of a ConfigMap can be 6 MiB of JSON."""
    event = {"type": "ADDED", "object": {"metadata": {"name": "ada"}, "data": "<" * 2**20}}
    long = json.dumps(event).replace("<", "\\u003c").encode()
    api.always(long + b"\n" + long + b"\n")
    assert ask(kubeconfig, events) == [("ADDED", event["object"])] * 2
    api.always(b'"' + b"x" * (LONGEST_EVENT + 1))
    with pytest.raises(TooLongError):
        ask(kubeconfig, events)
