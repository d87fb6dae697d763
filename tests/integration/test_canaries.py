"""A scan for canaries: secrets and texts of a running system, sought wherever something is written down.

Everything that can fail has done so before. ``PLACES`` is the table: a line for each place.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psutil
import pytest
import redis as redis_client

from shared.tables import metadata
from tests.support.canaries import EVERYTHING, PROMPT, REPLIED, SAID, SECRETS, TEXTS, forms, found_in
from tests.support.failing import Scene, open_scene
from tests.support.providers_pool import CANARIES
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Let everything go wrong once."""
    with open_scene(tmp_path_factory.mktemp("canaries")) as made:
        yield made


Read = Callable[[Scene], str | bytes]


@dataclass(frozen=True)
class Place:
    """A place where something is written down."""

    where: str
    """In words."""

    canaries: tuple[str, ...]
    """What may not be there."""

    read: Read
    """Read all of it."""

    plant: Callable[[Scene, str], object]
    """Put a canary there, to show that it would be found."""

    def __str__(self) -> str:
        return self.where


def remembered(where: str, canaries: tuple[str, ...] = EVERYTHING) -> Place:
    """A place that was read while things went wrong."""
    return Place(
        where,
        canaries,
        lambda scene: scene.said[where],
        lambda scene, canary: scene.said.update({where: scene.said[where] + canary}),
    )


def log_files(where: str, pattern: str) -> Place:
    """The logs of a process, which are files here."""

    def plant(scene: Scene, canary: str) -> None:
        with next(scene.folder.glob(pattern)).open("a") as log:
            log.write(canary)

    def read(scene: Scene) -> bytes:
        logs = list(scene.folder.glob(pattern))
        assert all(log.stat().st_size for log in logs)
        assert logs
        return b"".join(log.read_bytes() for log in logs)

    return Place(where, EVERYTHING, read, plant)


def every_key(scene: Scene) -> bytes:
    """Every key of Redis with its value, whatever its type."""
    client: Any = redis_client.Redis.from_url(scene.way.cell.redis_url)
    keys = list(client.scan_iter())
    assert keys
    dumped = b"".join(key + _value(client, key) for key in keys)
    client.close()
    return dumped


def _value(client: Any, key: bytes) -> bytes:
    match client.type(key):
        case b"string":
            return bytes(client.get(key) or b"")
        case b"list":
            return b"".join(client.lrange(key, 0, -1))
        case b"set":
            return b"".join(client.smembers(key))
        case b"zset":
            return b"".join(client.zrange(key, 0, -1))
        case b"hash":
            return b"".join(name + value for name, value in client.hgetall(key).items())
        case other:
            raise AssertionError(f"a key of type {other!r}")


HOMES = {"messages.text": SAID, "messages.reply": REPLIED, "agent_revisions.persona_json": PROMPT}
"""The columns where a text belongs."""


def every_other_column(scene: Scene) -> str:
    """Every column of every table, without the one canary that is at home there."""
    told = []
    for table in metadata.sorted_tables:
        for column in table.c:
            name = f"{table.name}.{column.name}"
            rows = scene.way.cell.database.rows(f"select {column.name}::text from {table.name}")
            told.append(str(rows).replace(HOMES.get(name, "\0"), ""))
    assert len(told) > 40
    return "\n".join(told)


def command_lines(_: Scene) -> str:
    """The arguments of every process that this one started, which every user of a machine can read."""
    lines = [" ".join(child.cmdline()) for child in psutil.Process().children(recursive=True)]
    assert len(lines) > 3
    return "\n".join(lines)


def run_with_argument(scene: Scene, canary: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()", canary], stdin=subprocess.PIPE)
    scene.running.callback(process.communicate)


def left_files(scene: Scene) -> bytes:
    """What processes left in the folder for temporary files, names and contents."""
    paths = [path for path in (scene.folder / "tmp").rglob("*") if path.is_file()]
    return b"".join(str(path).encode() + path.read_bytes() for path in paths)


PLACES = (
    log_files("log of the worker", "worker-*.log"),
    log_files("log of the llm-pool", "pool.log"),
    log_files("log of PostgreSQL", "postgres*.log"),
    log_files("log of Redis", "redis*.log"),
    remembered("error bodies of the llm-pool"),
    remembered("a reply when every provider fails"),
    remembered("what commands say of an error"),
    remembered("what commands show"),
    remembered("metrics of the worker"),
    remembered("metrics of the llm-pool"),
    Place(
        "what a process says that cannot start",
        EVERYTHING,
        lambda scene: "".join(one.stdout + one.stderr for one in scene.ended),
        lambda scene, canary: scene.ended.append(subprocess.CompletedProcess((), 1, canary, "")),
    ),
    Place(
        "traces",
        EVERYTHING,
        lambda scene: b"".join(scene.collector.bodies) + str(scene.collector.headers).encode(),
        lambda scene, canary: scene.collector.bodies.append(canary.encode()),
    ),
    Place(
        "keys of Redis: deliveries and results",
        (*SECRETS, PROMPT),
        every_key,
        lambda scene, canary: redis_client.Redis.from_url(scene.way.cell.redis_url).set("planted", canary),
    ),
    Place(
        "columns of PostgreSQL where it does not belong",
        EVERYTHING,
        every_other_column,
        lambda scene, canary: scene.way.cell.database.rewrite(f"update messages set reason = '{canary}'"),
    ),
    Place("command lines of every process", EVERYTHING, command_lines, run_with_argument),
    Place(
        "temporary files",
        EVERYTHING,
        left_files,
        lambda scene, canary: (scene.folder / "tmp" / "planted").write_text(canary),
    ),
)
"""The table: one line for each place."""


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_no_canary_is_where_it_does_not_belong(scene: Scene, place: Place) -> None:
    assert found_in(place.read(scene), place.canaries) == []


def test_the_texts_are_where_they_belong(scene: Scene) -> None:
    """Without which nothing above would mean anything."""
    for column, text in HOMES.items():
        table, name = column.split(".")
        held = str(scene.way.cell.database.rows(f"select {name} from {table}"))
        assert text in held, column
    asked = str(scene.way.anthropic.requests)
    assert SAID in asked
    assert PROMPT in asked
    assert str(scene.way.anthropic.headers).count(CANARIES[0])


@pytest.mark.parametrize("canary", EVERYTHING)
def test_a_canary_is_found_in_every_form(canary: str) -> None:
    for form in forms(canary):
        assert found_in(b"before " + form + b" after", (canary,)) == [canary]
    assert found_in(b"nothing of the kind", TEXTS) == []


@pytest.mark.parametrize("place", PLACES, ids=str)  # the last tests of the module: they leave canaries
def test_a_canary_would_be_found_in_each_place(scene: Scene, place: Place) -> None:
    planted = place.canaries[-1]
    place.plant(scene, planted)
    eventually(lambda: planted in found_in(place.read(scene), place.canaries), what=f"{planted} in {place}")
