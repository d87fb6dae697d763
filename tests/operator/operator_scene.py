"""An operator and a worker to which everything happens that can, and what they said of it: for canaries."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import Any

import httpx
import yaml

from docs.generate import AGENT_DEFINITION
from konstruct_cli.stack.postgres import Postgres
from konstruct_cli.stack.redis import Redis
from shared.kube.names import AGENT_LABEL, REVISION_LABEL, agents_path, config_map_path, config_maps_path
from shared.reply import MessageStatus
from tests.operator.operator_canaries import (
    FORGED,
    PROMPT,
    SPEC,
    TOKEN,
    WORKER_TOKEN,
    Echo,
    broken_kubeconfigs,
    echoes,
    endings,
    misplaced,
)
from tests.operator.operator_stage import AdminApi, OperatorProcess, OperatorStage, install_crd
from tests.operator.worker_stage import Stage, Worker, worker_beside
from tests.support.control_plane import ControlPlane
from tests.support.false_api import FalseApi, false_api
from tests.support.own_cell import open_own_cell
from tests.support.pool import running_stub_pool
from tests.support.toolchain import tool
from tests.support.waiting import eventually

HOME, ACME, GLOBEX = "home", "acme", "globex"
"""The namespace of the release, and those of two tenants."""


@dataclass
class Scene:
    """A cluster after all of it, with operator and worker still running."""

    stage: OperatorStage
    workers: Stage
    worker: Worker
    front: FalseApi
    folder: Path
    operator: OperatorProcess
    operators: list[OperatorProcess] = field(default_factory=list)
    """Every operator that ran."""
    answered: str = ""
    """What the operator answered to whoever asked over HTTP."""

    def start(self, *, ready: bool = True, **more: str) -> OperatorProcess:
        """Start an operator that says all that it can, and writes temporary files where they are seen."""
        debug = {"KONSTRUCT_LOG_LEVEL": "debug", "TMPDIR": str(self.folder / "tmp")}
        made = self.stage.start(ready=ready, **debug, **more)
        self.operators.append(made)
        return made

    def works(self, prompt: str) -> None:
        """Whether an edit of the agent takes effect, by an operator that is started if it has ended."""
        if self.operator.ended():
            self.operator = self.start()
        before = str(self.stage.status()["activeRevision"])
        self.stage.apply(**{**SPEC, "systemPrompt": f"{PROMPT} {prompt}"})
        self.stage.revision(other_than=before)
        self.stage.until("Ready", "True", "Ready", within_s=60)


@contextmanager
def open_scene(folder: Path) -> Iterator[Scene]:
    """Run an operator and a worker through every fault at the level debug."""
    (folder / "tmp").mkdir()
    tokens = {
        f"system:serviceaccount:{HOME}:konstruct-operator": TOKEN,
        f"system:serviceaccount:{HOME}:worker": WORKER_TOKEN,
    }
    with ExitStack() as end:
        cluster = end.enter_context(ControlPlane(folder / "cluster", audit=True, tokens=tokens))
        install_crd(cluster)
        cluster.restart_controllers()
        front = end.enter_context(false_api(cluster.url))
        api = AdminApi(cluster)
        end.callback(api.close)
        stage = OperatorStage(cluster, api, tool("helm"), folder, HOME, (ACME, GLOBEX), clusterwide=True)
        for name in (HOME, ACME, GLOBEX):
            cluster.kubectl("create", "namespace", name)
        for name in stage.spaces:
            stage.relabel(name, name)
        stage.prepare()
        end.enter_context(stage.end)
        stage.kubeconfig = front.kubeconfig(folder / "operator.kubeconfig", TOKEN)
        postgres = end.enter_context(Postgres(folder / "postgres", durable=False))
        redis = end.enter_context(Redis(folder / "redis"))
        pool = end.enter_context(running_stub_pool())
        cell = end.enter_context(open_own_cell(postgres, redis, pool, folder))
        workers = worker_beside(stage, cell)
        end.enter_context(workers.end)
        path = front.kubeconfig(folder / "worker.kubeconfig", WORKER_TOKEN)
        worker = workers.worker(kubeconfig=path, lease_s=60, KONSTRUCT_LOG_LEVEL="debug")
        first = stage.start(KONSTRUCT_LOG_LEVEL="debug", TMPDIR=str(folder / "tmp"))
        scene = Scene(stage, workers, worker, front, folder, first, [first])
        go_wrong(scene)
        yield scene


def go_wrong(scene: Scene) -> None:
    """Let everything go wrong, one after the other, and remember what was said of it."""
    stage = scene.stage
    stage.apply(**SPEC)
    stage.until("Ready", "True", "Ready", within_s=60)
    scene.worker.ready()
    assert scene.workers.ask().status is MessageStatus.ANSWERED
    scene.works("edited")
    _a_name_is_taken(scene)
    _documents_are_forged(scene)
    _specs_are_not_valid(scene)
    _rights_are_withdrawn(scene)
    _the_api_server_is_away(scene)
    _something_else_answers(scene)
    _no_way_is_known(scene)
    scene.works("after all of it")
    asked = [httpx.get(f"{scene.operator.url}{path}") for path in ("/metrics", "/healthz", "/", "/novelty")]
    assert [answer.status_code for answer in asked] == [200, 200, 404, 404]
    scene.answered = "".join(f"{answer.headers}{answer.text}" for answer in asked)


def _a_name_is_taken(scene: Scene) -> None:
    stage = scene.stage
    stage.relabel(GLOBEX, ACME)
    stage.wait_for_the_next_second()
    stage.apply(space=GLOBEX, **SPEC)
    stage.until("Accepted", "False", "NameTaken", space=GLOBEX)
    stage.relabel(GLOBEX, None)
    stage.until("Accepted", "False", "NoTenant", space=GLOBEX)
    stage.relabel(GLOBEX, GLOBEX)


def _documents_are_forged(scene: Scene) -> None:
    stage = scene.stage
    for name, good in stage.config_maps().items():
        path = config_map_path(ACME, name)
        kept = {key: good["metadata"][key] for key in ("name", "labels", "ownerReferences")}
        forged = {"metadata": kept, "data": dict.fromkeys(good["data"], FORGED), "immutable": True}
        stage.api.delete(path)
        stage.api.create(config_maps_path(ACME), forged)  # the operator may be faster

        def is_good(path: str = path, good: dict[str, Any] = good) -> bool:
            return bool((stage.api.find(path) or {}).get("data") == good["data"])

        revision = good["metadata"]["labels"][REVISION_LABEL]
        if revision == stage.status()["activeRevision"]:
            eventually(is_good, what="the good one again")
    own = {
        "metadata": {"name": "ada-persona-ffffffffffff", "labels": {AGENT_LABEL: "ada"}},
        "data": {"persona.json": FORGED},
    }
    assert stage.api.create(config_maps_path(ACME), own).is_success


def _specs_are_not_valid(scene: Scene) -> None:
    """As after an upgrade: they were stored when the API server checked less."""
    stage = scene.stage
    loose = yaml.safe_load(AGENT_DEFINITION.read_text())
    properties = loose["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    properties["spec"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    stage.cluster.apply(json.dumps(loose))
    for name, spec in misplaced():
        # The API server takes up another schema when it gets to it.
        eventually(lambda: _create(stage, name, spec).is_success, what="a looser check")  # noqa: B023
        stage.until("Rendered", "False", "InvalidSpec", name)
    install_crd(stage.cluster)
    eventually(
        lambda: _create(stage, "refused", spec, dryRun="All").status_code == 422, what="the strict check"
    )
    # Each status is written again, of a spec that is refused now.
    stage.relabel(ACME, None)
    stage.until("Accepted", "False", "NoTenant")
    stage.relabel(ACME, ACME)
    stage.until("Ready", "True", "Ready", within_s=60)


def _create(stage: OperatorStage, name: str, spec: dict[str, Any], **query: str) -> httpx.Response:
    head = {"apiVersion": "konstruct.dev/v1alpha1", "kind": "Agent", "metadata": {"name": name}}
    return stage.api.create(agents_path(ACME), head | {"spec": spec}, **query)


def _rights_are_withdrawn(scene: Scene) -> None:
    stage = scene.stage
    listed = stage.cluster.get("clusterrolebindings")["items"]
    bindings = [item for item in listed if "operator" in item["metadata"]["name"]]
    assert bindings
    before = len(scene.operator.log())
    for binding in bindings:
        stage.cluster.kubectl("delete", "clusterrolebinding", binding["metadata"]["name"])
    scene.front.interrupt()
    stage.apply(**SPEC)
    eventually(lambda: scene.operator.log()[before:].count("403") > 3, what="refusals")
    for binding in bindings:
        del binding["metadata"]["resourceVersion"], binding["metadata"]["uid"]
    stage.cluster.apply(*bindings)
    scene.works("with its rights again")


def _the_api_server_is_away(scene: Scene) -> None:
    before = len(scene.operator.log())
    scene.stage.cluster.stop_apiserver()
    scene.front.interrupt()
    early = scene.start(ready=False)
    eventually(lambda: "cannot start yet" in early.log(), what="patience")
    eventually(lambda: scene.operator.log()[before:].count("warning") > 2, what="the outage being noticed")
    eventually(lambda: "cannot" in scene.worker.log() or "broke" in scene.worker.log(), what="the same")
    early.stop()
    scene.stage.cluster.start_apiserver()
    scene.works("after an outage")


class _Echoing:
    """Gives each client its share of answers, and two of three times at each address: delays stay short."""

    def __init__(self) -> None:
        holders = {"kopf": TOKEN, TOKEN: TOKEN, WORKER_TOKEN: WORKER_TOKEN}
        self.left = {who: echoes(token) + endings(token) for who, token in holders.items()}
        self._asked = Counter[tuple[str, str]]()

    def __call__(self, path: str, headers: Message, __: bytes) -> Echo | None:
        who = "kopf" if "kopf" in headers["user-agent"] else headers["authorization"].split()[-1]
        address = who, path.partition("?")[0]
        self._asked[address] += 1
        left = self.left[who]
        return left.pop(0) if left and self._asked[address] % 3 else None

    def done(self) -> bool:
        return not any(self.left.values())


def _something_else_answers(scene: Scene) -> None:
    scene.front.say = echoing = _Echoing()

    def all_said() -> bool:
        if scene.operator.ended():
            scene.operator = scene.start(ready=False)
        scene.front.interrupt()
        time.sleep(0.2)
        return echoing.done()

    eventually(all_said, within_s=100, what="everything said to everybody")
    scene.front.say = lambda *_: None


def _no_way_is_known(scene: Scene) -> None:
    """Each in a process of its own, all at once."""
    tried = []
    for number, (what, text) in enumerate(broken_kubeconfigs(scene.front.url)):
        path = scene.folder / f"broken-{number}.kubeconfig"
        path.write_text(text)
        tried.append((what, scene.start(ready=False, KONSTRUCT_KUBECONFIG=str(path))))
    for what, operator in tried:
        eventually(lambda: "cannot start yet" in operator.log(), within_s=60, what=what)  # noqa: B023
        operator.stop()
