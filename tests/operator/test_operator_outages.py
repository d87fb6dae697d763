"""Restarts, outages, crowds and people who write at the same time."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from shared.kube.names import OPERATOR_LEASE, agent_path, lease_path
from tests.operator.operator_stage import AdminApi, OperatorProcess, OperatorStage, install_crd
from tests.operator.operator_workers import FakeWorker
from tests.support.control_plane import ControlPlane
from tests.support.tcp_proxy import Mode, TcpProxy
from tests.support.waiting import eventually

pytest_plugins = ["tests.operator.operator_fixtures"]

CROWD = 200

AT_ONCE_S = 6.0
"""Longest end of a process, on a busy machine, with the three seconds that giving up its claims may take."""


SOON_S = 40.0
"""Longest until half-open watches are given up, on a busy machine: much less than the minute after which an
API server with nothing to tell would send a bookmark."""


def through(stage: OperatorStage, proxy: TcpProxy) -> str:
    """Write the operator's kubeconfig, but through a proxy, and return its path."""
    path = stage.kubeconfig.with_suffix(".proxy")
    direct = stage.kubeconfig.read_text()
    path.write_text(direct.replace(stage.cluster.url, f"https://127.0.0.1:{proxy.port}"))
    return str(path)


def end_s(operator: OperatorProcess) -> float:
    """Tell an operator to stop, and return the seconds that it took."""
    began = time.monotonic()
    os.kill(operator.process.pid, signal.SIGTERM)
    eventually(lambda: operator.process.exit_code() is not None, within_s=60, what="its end")
    assert operator.process.exit_code() == 0, operator.log()
    return time.monotonic() - began


@pytest.mark.parametrize("away", [Mode.REFUSE, Mode.BLACKHOLE], ids=["refused", "unanswered"])
def test_it_ends_at_once_while_the_api_server_is_away(operator_stage: OperatorStage, away: Mode) -> None:
    stage = operator_stage
    with TcpProxy(int(stage.cluster.url.rpartition(":")[2])) as proxy:
        kubeconfig = through(stage, proxy)
        proxy.set(away)
        early = stage.start(ready=False, KONSTRUCT_KUBECONFIG=kubeconfig)
        eventually(early.healthy, what="a start without the API server")
        if away is Mode.REFUSE:
            eventually(lambda: "cannot start yet" in early.log(), what="a first try")
        assert end_s(early) < AT_ONCE_S

        proxy.set(Mode.PASS)
        operator = stage.start(KONSTRUCT_KUBECONFIG=kubeconfig)
        stage.apply()
        stage.revision()
        proxy.set(away)
        if away is Mode.REFUSE:
            proxy.reset()
            eventually(lambda: "leases: " in operator.log(), what="the outage being noticed")
        assert end_s(operator) < AT_ONCE_S

    # What it could not give up hinders nobody of the same release.
    again = stage.start()
    assert end_s(again) < AT_ONCE_S
    assert stage.api.find(lease_path(stage.space, OPERATOR_LEASE)) is None


def test_an_edit_is_soon_in_effect_when_every_watch_is_half_open(operator_stage: OperatorStage) -> None:
    """Nothing that was open before says a word any more, and nothing says that it ended."""
    stage, worker = operator_stage, FakeWorker(operator_stage)
    worker.renew()
    with TcpProxy(int(stage.cluster.url.rpartition(":")[2])) as proxy:
        operator = stage.start(KONSTRUCT_KUBECONFIG=through(stage, proxy))
        stage.apply()
        first = stage.revision()
        worker.renew()
        stage.until("Ready", "True", "Ready")

        proxy.freeze()
        stage.apply(systemPrompt="Behind half-open watches.")
        edit = stage.revision(other_than=first, within_s=SOON_S)  # kopf has seen it
        assert f"ada-persona-{edit}" in stage.config_maps()
        proxy.freeze()
        worker.renew()
        stage.until("Ready", "True", "Ready", within_s=SOON_S)  # the follower of the Leases has
        assert operator.process.exit_code() is None


def test_two_hundred_agents_at_once_and_a_restart_that_writes_nothing(operator_stage: OperatorStage) -> None:
    stage = operator_stage
    FakeWorker(stage).renew(seen=2**60)
    operator = stage.start()
    before = stage.audited()
    for number in range(CROWD):
        stage.apply(f"crowd-{number}", systemPrompt=f"You are number {number}.")
    eventually(
        lambda: operator.metric("konstruct_operator_agents", ready="true") == CROWD,
        within_s=90,
        what="all ready",
    )
    assert len(stage.writes(before)) <= 4 * CROWD
    assert len(stage.config_maps()) == 2 * CROWD

    operator.stop()
    before = stage.audited()
    again = stage.start()
    eventually(
        lambda: again.metric("konstruct_operator_reconciles_total", outcome="unchanged") >= CROWD,
        within_s=60,
        what="a look at each",
    )
    assert again.metric("konstruct_operator_agents", ready="true") == CROWD
    assert stage.writes(before) == []


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["asked to", "killed"])
def test_a_restart_in_the_middle_of_changes(operator_stage: OperatorStage, how: signal.Signals) -> None:
    stage = operator_stage
    FakeWorker(stage).renew(seen=2**60)
    operator = stage.start()
    for number in range(20):
        stage.apply(f"agent-{number}", systemPrompt="old")
    eventually(
        lambda: operator.metric("konstruct_operator_agents", ready="true") == 20,
        within_s=60,
        what="all ready",
    )
    old = stage.revision("agent-0")
    for number in range(20):
        stage.apply(f"agent-{number}", systemPrompt=f"new {number}")
        if number == 10:
            os.kill(operator.process.pid, how)
    eventually(lambda: operator.process.exit_code() is not None, what="its end")
    stage.start()
    for number in range(20):
        name = f"agent-{number}"
        revision = stage.revision(name, other_than=old)
        assert f"{name}-persona-{revision}" in stage.config_maps()
        stage.until("Ready", "True", "Ready", name)


def test_people_write_at_the_same_time(operator_stage: OperatorStage) -> None:
    stage = operator_stage
    FakeWorker(stage).renew(seen=2**60)
    stage.start()
    stage.apply()
    api = AdminApi(stage.cluster)
    answers = []

    def annotate() -> None:
        for number in range(60):
            change = {"metadata": {"annotations": {"touched": str(number)}}}
            answers.append(api.merge(agent_path(stage.space, "ada"), change).status_code)

    person = threading.Thread(target=annotate)
    person.start()
    for number in range(30):
        stage.apply(systemPrompt=f"version {number}")
    person.join()
    api.close()
    assert set(answers) == {200}
    stage.until("Ready", "True", "Ready")
    found = stage.api.find(agent_path(stage.space, "ada"))
    assert found is not None
    assert found["metadata"]["annotations"]["touched"] == "59"
    assert found["spec"]["systemPrompt"] == "version 29"
    assert found["status"]["observedGeneration"] == found["metadata"]["generation"]
    assert "finalizers" not in found["metadata"]
    assert list(found["metadata"]["annotations"]) == ["touched"]  # kopf leaves nothing behind


def test_an_api_server_that_restarts(
    control_plane_tools: None, operator_stage: OperatorStage, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with ControlPlane(tmp_path_factory.mktemp("restarted"), audit=True) as cluster:
        install_crd(cluster)
        api = AdminApi(cluster)
        stage = OperatorStage(
            cluster=cluster,
            api=api,
            helm=operator_stage.helm,
            folder=operator_stage.folder,
            home="home",
            spaces=("space",),
            clusterwide=True,
        )
        for name in ("home", "space"):
            cluster.kubectl("create", "namespace", name)
            stage.relabel(name, name)
        stage.prepare()
        with stage.end:
            FakeWorker(stage).renew(seen=2**60)
            operator = stage.start()
            stage.apply()
            stage.until("Ready", "True", "Ready")
            first = stage.revision()
            cluster.stop_apiserver()
            assert operator.healthy()  # an outage there is no fault of the operator
            cluster.start_apiserver()
            stage.apply(systemPrompt="after the restart")
            stage.revision(other_than=first)
            stage.until("Ready", "True", "Ready", within_s=60)
            assert operator.process.exit_code() is None

            cluster.stop_apiserver()
            late = stage.start(ready=False)
            eventually(lambda: "cannot start yet" in late.log(), what="patience")
            assert late.healthy()
            cluster.start_apiserver()
            eventually(lambda: "working:" in late.log(), within_s=40, what="its start")
        api.close()
