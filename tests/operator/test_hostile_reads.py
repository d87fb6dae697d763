"""One tenant's ConfigMaps cannot be read, each time: the others' edits are in effect as ever."""

from __future__ import annotations

import json
import threading
from email.message import Message
from pathlib import Path

import pytest

from tests.operator.hostile_stage import FEW_S, Neighbours
from tests.operator.operator_stage import OperatorStage
from tests.operator.worker_stage import worker_beside
from tests.support.false_api import false_api
from tests.support.worker import Cell

pytest_plugins = ["tests.operator.operator_fixtures"]

whole_cluster = pytest.mark.parametrize("operator_stage", [True], indirect=True, ids=["cluster"])


class _Trouble:
    """Answers for ConfigMaps of one namespace with 500, or not at all."""

    def __init__(self, namespace: str) -> None:
        self._path = f"/namespaces/{namespace}/configmaps/"
        self.hangs = False
        self.asked = 0
        self.over = threading.Event()

    def __call__(self, path: str, _: Message, __: bytes) -> tuple[int, bytes] | None:
        if self._path not in path or self.over.is_set():
            return None
        self.asked += 1
        if self.hangs:
            self.over.wait()
        return 500, b'{"kind": "Status", "message": "no key to decrypt it"}'


@whole_cluster
@pytest.mark.parametrize("hangs", [False, True], ids=["500", "no answer"])
def test_config_maps_that_cannot_be_read_hold_up_nobody_else(
    operator_stage: OperatorStage, cell: Cell, tmp_path: Path, hangs: bool
) -> None:
    stage = operator_stage
    operator = stage.start()
    workers = worker_beside(stage, cell)
    with false_api(stage.cluster.url) as front, workers.end:
        front.say = trouble = _Trouble(stage.spaces[0])
        workers.end.callback(trouble.over.set)
        trouble.hangs = hangs
        token = json_token(workers.kubeconfig)
        names = [f"a{one}" for one in range(40)]
        for name in names:
            stage.apply(name, stage.spaces[0])
        through = front.kubeconfig(tmp_path / "through.kubeconfig", token)
        # It starts while they cannot be read, and takes messages of the others all the same.
        worker = workers.worker(kubeconfig=through, lease_s=60).ready(within_s=30)
        world = Neighbours(stage, operator, workers, worker)
        world.begin()
        assert trouble.asked >= 12
        for name in names:
            stage.apply(name, stage.spaces[0], systemPrompt="Edited.")
        assert max(world.edit() for _ in range(3)) < FEW_S
        stage.until("Ready", "True", "Ready", "vera", stage.spaces[1])
        stage.until("ConfigSynced", "False", "WorkerRefused", names[0], stage.spaces[0])
        lease = worker.lease()
        assert lease is not None
        assert lease.state.hidden == (stage.spaces[0],)
        world.unharmed()

        if hangs:
            return
        trouble.over.set()  # they can be read again, and come into effect by themselves
        for name in (names[0], names[-1]):
            stage.until("Ready", "True", "Ready", name, stage.spaces[0], within_s=60)


def json_token(kubeconfig: Path) -> str:
    """Give the token of a kubeconfig."""

    token: str = json.loads(kubeconfig.read_text())["users"][0]["user"]["token"]
    return token
