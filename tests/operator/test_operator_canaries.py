"""A scan for canaries: an operator's token and what Agents say, sought wherever something is written down.

Everything that can go wrong has done so before. ``PLACES`` is the table: a line for each place. Texts are at
home in the Agent's spec and in the ConfigMaps of its revisions: nowhere else, no annotation either.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from shared.kube.names import agents_path, config_maps_path, leases_path
from tests.operator.operator_canaries import BACKGROUND, EVERYTHING, FORGED, PROMPT, SECRETS, TONE
from tests.operator.operator_scene import ACME, HOME, Scene, open_scene
from tests.support.canaries import found_in
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(500)


@pytest.fixture(scope="module")
def scene(control_plane_tools: None, helm: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Let everything go wrong once."""
    with open_scene(tmp_path_factory.mktemp("canaries")) as made:
        yield made


AGENTS, CONFIG_MAPS = agents_path(ACME), config_maps_path(ACME)
EVENTS = f"/api/v1/namespaces/{ACME}/events"
SPEC_TEXTS = (PROMPT, TONE, BACKGROUND)


@dataclass(frozen=True)
class Place:
    """A place where something is written down."""

    where: str
    """In words."""

    read: Callable[[Scene], str]
    """Read all of it."""

    plant: Callable[[Scene, str], object]
    """Put a canary there, to show that it would be found."""

    canaries: tuple[str, ...] = EVERYTHING
    """What may not be there."""

    def __str__(self) -> str:
        return self.where


def logs(scene: Scene) -> str:
    told = [operator.log() for operator in scene.operators]
    assert all(told)
    return "".join(told)


def append(log: Path, text: str) -> None:
    with log.open("a") as lines:
        lines.write(text)


def objects(path: str, *without: str) -> Callable[[Scene], str]:
    """Read a collection whole, or without fields of its objects."""

    def read(scene: Scene) -> str:
        found = scene.stage.api.list(path)
        assert found
        return json.dumps([{key: item[key] for key in item.keys() - set(without)} for item in found])

    return read


def annotate(path: str) -> Callable[[Scene, str], object]:
    """Write a canary into an annotation of each object of a collection."""

    def plant(scene: Scene, canary: str) -> None:
        for item in scene.stage.api.list(path):
            named = f"{path}/{item['metadata']['name']}"
            scene.stage.api.merge(named, {"metadata": {"annotations": {"planted": canary}}})

    return plant


def post_event(scene: Scene, canary: str) -> None:
    involved = {"kind": "Agent", "name": "ada", "namespace": ACME}
    event = {"metadata": {"name": "planted"}, "involvedObject": involved, "message": canary}
    assert scene.stage.api.create(f"/api/v1/namespaces/{ACME}/events", event).is_success


def processes(scene: Scene) -> str:
    """Arguments and environment of operator and worker, as /proc shows them to their user, and to root."""
    running = [psutil.Process(pid) for pid in (scene.operator.process.pid, scene.worker.process.pid)]
    return json.dumps([[process.cmdline(), process.environ()] for process in running])


def restart_with_argument(scene: Scene, canary: str) -> None:
    scene.operator.stop()
    scene.operator = scene.start(KONSTRUCT_POD_NAME=canary)


def temporary_files(scene: Scene) -> str:
    paths = [path for path in (scene.folder / "tmp").rglob("*") if path.is_file()]
    return "".join(f"{path} {path.read_text()}" for path in paths)


def asked(scene: Scene) -> str:
    """Give the addresses of all requests; of what it answered, the API server's own log quotes."""
    addresses = [event["requestURI"] for event in scene.stage.cluster.audit_events()]
    assert len(addresses) > 100
    return json.dumps(addresses)


PLACES = (
    Place("log of the operator", logs, lambda scene, canary: append(scene.operator.process.log, canary)),
    Place(
        "log of the worker",
        lambda scene: scene.worker.log(),
        lambda scene, canary: append(scene.worker.process.log, canary),
    ),
    Place(
        "what the operator answers over HTTP",
        lambda scene: scene.answered,
        lambda scene, canary: setattr(scene, "answered", scene.answered + canary),
    ),
    Place("Events", objects(EVENTS), post_event),
    Place("status, conditions, labels and annotations of Agents", objects(AGENTS, "spec"), annotate(AGENTS)),
    Place("specs of Agents", objects(AGENTS), annotate(AGENTS), SECRETS),
    Place(
        "labels, annotations and owners of ConfigMaps", objects(CONFIG_MAPS, "data"), annotate(CONFIG_MAPS)
    ),
    Place("documents in ConfigMaps", objects(CONFIG_MAPS), annotate(CONFIG_MAPS), SECRETS),
    Place("Leases of the workers", objects(leases_path(HOME)), annotate(leases_path(HOME))),
    Place("Leases by which namespaces are claimed", objects(leases_path(ACME)), annotate(leases_path(ACME))),
    Place("command lines and environments", processes, restart_with_argument),
    Place(
        "temporary files",
        temporary_files,
        lambda scene, canary: (scene.folder / "tmp" / "planted").write_text(canary),
    ),
    Place(
        "addresses of requests",
        asked,
        lambda scene, canary: scene.stage.api.find(f"/api/v1/namespaces/{canary}"),
    ),
)
"""The table: one line for each place."""


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_no_canary_is_where_it_does_not_belong(scene: Scene, place: Place) -> None:
    assert found_in(place.read(scene), place.canaries) == []


def test_the_texts_are_where_they_belong(scene: Scene) -> None:
    """Without which nothing above would mean anything."""
    for path, place in ((AGENTS, "spec"), (CONFIG_MAPS, "data")):
        held = json.dumps([item[place] for item in scene.stage.api.list(path)])
        assert [text for text in SPEC_TEXTS if text not in held] == []
    assert FORGED in json.dumps(scene.stage.api.list(CONFIG_MAPS))  # one that is nobody's stays as it is
    assert PROMPT in str(scene.workers.cell.pool.requests)


def test_everything_went_wrong(scene: Scene) -> None:
    """Each of these was said, so that there was something to repeat."""
    told, worker = logs(scene), scene.worker.log()
    for words in ("401:", "403:", "500:", "cannot start yet", "failed; will retry", "event type:"):
        assert words in told, words
    for words in ("401:", "403:", "500:", "broke:"):
        assert words in worker, words
    reasons = {(event["type"], event["reason"]) for event in scene.stage.api.list(EVENTS)}
    assert {("Warning", "InvalidSpec"), ("Warning", "NameTaken"), ("Normal", "ConfigSynced")} <= reasons


@pytest.mark.parametrize("place", PLACES, ids=str)  # the last tests of the module: they leave canaries
def test_a_canary_would_be_found_in_each_place(scene: Scene, place: Place) -> None:
    planted = place.canaries[0]
    place.plant(scene, planted)
    eventually(lambda: planted in found_in(place.read(scene), place.canaries), what=f"{planted} in {place}")
