"""What is in the queue and is no delivery: a worker throws it away, and goes on with the messages."""

from __future__ import annotations

import base64
import json
import pickle
from pathlib import Path
from typing import Any

from orchestrator.main import QUEUE, TASK_NAME
from shared.reply import MessageStatus
from tests.support.waiting import eventually
from tests.support.worker import Cell

CANARY = "canary-of-the-queue-4411"
"""Stands in everything that is thrown away; must not be logged."""


class Bomb:
    """Leaves a file where it is unpickled."""

    def __init__(self, where: Path) -> None:
        self._where = where

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._where,)


def envelope(body: bytes, tag: str, /, **changes: Any) -> dict[str, Any]:
    """Make what kombu puts into Redis; a change to None leaves it out."""
    whole: dict[str, Any] = {
        "body": base64.b64encode(body).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": TASK_NAME, "id": tag, "argsrepr": CANARY},
        "properties": {
            "correlation_id": tag,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": QUEUE},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": tag,
        },
    }
    whole.update(changes)
    return {name: value for name, value in whole.items() if value is not None}


def garbage(bomb: Path) -> dict[str, bytes]:
    """Name everything that is no delivery."""
    body = json.dumps([[{"text": CANARY}], {}, {}]).encode()
    properties: dict[str, Any] = envelope(body, "x")["properties"]

    def without(name: str) -> dict[str, Any]:
        return {key: value for key, value in properties.items() if key != name}

    envelopes = {
        "a body that is no base64": envelope(body, "1", body=f"%%{CANARY}%%"),
        "a body of a wrong length": envelope(body, "2", body="abcde"),
        "a body that is no JSON": envelope(CANARY.encode(), "3"),
        "a body that is no UTF-8": envelope(b"\xff\xfe" + CANARY.encode(), "4"),
        "a body that is null": envelope(b"null", "5"),
        "a body of another form": envelope(b'{"a": 1}', "6"),
        "a body as deep as it gets": envelope(b"[" * 50_000, "7"),
        "a number as long as it gets": envelope(b"[[" + b"9" * 50_000 + b"],{},{}]", "8"),
        "a body that is no text": envelope(body, "9", body=7),
        "pickle": envelope(
            pickle.dumps(Bomb(bomb)), "10", **{"content-type": "application/x-python-serialize"}
        ),
        "pickle in base64 twice": envelope(
            base64.b64encode(pickle.dumps(Bomb(bomb))), "11", **{"content-type": "application/x-pickle"}
        ),
        "yaml": envelope(b"!!python/none {}", "12", **{"content-type": "application/x-yaml"}),
        "an unknown content type": envelope(body, "13", **{"content-type": f"x/{CANARY}"}),
        "no content type": envelope(body, "14", **{"content-type": None}),
        "an unknown encoding": envelope(body, "15", **{"content-encoding": "klingon"}),
        "no headers": envelope(body, "16", headers=None),
        "headers that are a list": envelope(body, "17", headers=[CANARY]),
        "another task": envelope(body, "18", headers={"task": CANARY, "id": "18", "lang": "py"}),
        "no id": envelope(body, "19", headers={"task": TASK_NAME, "lang": "py"}),
        "an id that is a list": envelope(body, "20", headers={"task": TASK_NAME, "id": [CANARY]}),
        "a date that is none": envelope(body, "21", headers={"task": TASK_NAME, "id": "21", "eta": CANARY}),
        "an end that is none": envelope(body, "22", headers={"task": TASK_NAME, "id": "22", "expires": []}),
        "another compression": envelope(
            body, "23", headers={"task": TASK_NAME, "id": "23", "compression": "x"}
        ),
        "no properties": envelope(body, "24", properties=None),
        "properties that are a text": envelope(body, "25", properties=CANARY),
        "no delivery tag": envelope(body, "26", properties=without("delivery_tag")),
        "no delivery info": envelope(body, "27", properties=without("delivery_info")),
        "no encoding of the body": envelope(body, "28", properties=without("body_encoding")),
        "no body": envelope(body, "29", body=None),
        "ten megabytes": envelope(b'[["' + CANARY.encode() + b"x" * 10_000_000 + b'"],{},{}]', "30"),
    }
    raw = {
        "nothing": b"",
        "no JSON": CANARY.encode(),
        "half of it": json.dumps(envelope(body, "31")).encode()[:-30],
        "no UTF-8": b"\xff\xfe\x00",
        "null": b"null",
        "a number": b"7",
        "a list": b"[]",
        "an empty object": b"{}",
        "deep": b"[" * 100_000,
    }
    return {**{name: json.dumps(made).encode() for name, made in envelopes.items()}, **raw}


def test_garbage_in_the_queue_harms_no_message(cell: Cell, tmp_path: Path) -> None:
    """One worker takes all of it: what one of them breaks, the next message would show."""
    worker = cell.start_worker()
    bomb = tmp_path / "unpickled"
    for name, item in garbage(bomb).items():
        cell.broker.lpush(QUEUE, item)
        message = cell.message(f"after {name}")
        cell.submit(message)
        assert cell.reply(message, within_s=20).status is MessageStatus.ANSWERED, name
        assert worker.exit_code() is None, name
    assert not bomb.exists()
    assert CANARY not in cell.logs()
    assert eventually(cell.settled, what="an empty queue")
