"""ConfigSynced: what the workers' Leases prove, and what they do not."""

from __future__ import annotations

import time

from shared.kube.leases import Refusal
from tests.operator.operator_stage import OperatorStage
from tests.operator.operator_workers import FakeWorker
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import eventually

pytest_plugins = ["tests.operator.operator_fixtures"]


def test_every_worker_has_to_have_it(operator_stage: OperatorStage) -> None:
    stage = operator_stage
    workers = [FakeWorker(stage) for _ in range(3)]
    for worker in workers:
        worker.renew()
    operator = stage.start()
    stage.apply()
    message = stage.until("ConfigSynced", "False", "WorkersPending")
    assert "0/3 workers" in message
    assert operator.metric("konstruct_operator_unsynced_agents") == 1
    for worker in workers[:2]:
        worker.renew()
    eventually(lambda: operator.metric("konstruct_operator_workers", state="alive") == 3, what="all Leases")
    assert stage.condition("ConfigSynced")["status"] == "False"
    workers[2].renew()
    assert stage.until("ConfigSynced", "True", "WorkersSynced") == "3/3 workers"
    assert operator.metric("konstruct_operator_unsynced_agents") == 0


def test_once_true_it_stays_true_and_workers_may_come_and_go(operator_stage: OperatorStage) -> None:
    stage = operator_stage
    worker = FakeWorker(stage)
    worker.renew(seen=2**60)
    operator = stage.start()
    stage.apply()
    stage.until("Ready", "True", "Ready")
    before = stage.audited()
    worker.leave()
    eventually(lambda: operator.metric("konstruct_operator_workers") == 0, what="no worker")
    late = FakeWorker(stage)
    late.renew(seen=1)
    eventually(lambda: operator.metric("konstruct_operator_workers") == 1, what="a worker")
    stage.apply("eve")  # proof that the operator has looked since
    stage.revision("eve")
    assert stage.condition("ConfigSynced")["status"] == "True"
    assert [name for _, _, name in stage.writes(before) if name == "ada" or name.startswith("ada-")] == []


def test_an_expired_worker_is_silent_and_nothing_is_true(operator_stage: OperatorStage) -> None:
    stage = operator_stage
    silent, alive = FakeWorker(stage, duration_s=2), FakeWorker(stage)
    silent.renew(seen=2**60)
    alive.renew(seen=2**60)
    operator = stage.start()
    eventually(lambda: operator.metric("konstruct_operator_workers", state="silent") == 1, what="silence")
    stage.apply()
    assert silent.name in stage.until("ConfigSynced", "Unknown", "WorkerSilent")
    silent.leave()
    stage.until("ConfigSynced", "True", "WorkersSynced")


def test_a_lease_that_vanished_counts_until_it_would_have_expired(operator_stage: OperatorStage) -> None:
    stage = operator_stage
    worker, alive = FakeWorker(stage, duration_s=8), FakeWorker(stage)
    alive.renew(seen=2**60)
    operator = stage.start()
    worker.renew(seen=1)
    eventually(lambda: operator.metric("konstruct_operator_workers", state="alive") == 2, what="both")
    worker.vanish()
    eventually(lambda: operator.metric("konstruct_operator_workers", state="silent") == 1, what="doubt")
    stage.apply()
    stage.until("ConfigSynced", "Unknown", "WorkerSilent")
    stage.until("ConfigSynced", "True", "WorkersSynced", within_s=30)


def test_a_lease_that_vanished_before_the_operator_started(operator_stage: OperatorStage) -> None:
    """Nobody can tell whether there was one: so nothing is proven until it could not matter any more."""
    stage, lease_s = operator_stage, 5
    alive = FakeWorker(stage)
    alive.renew(seen=2**60)
    began = time.monotonic()
    operator = stage.start(ready=False, KONSTRUCT_WORKER_LEASE_S=str(lease_s))
    stage.apply()
    assert "listed anew" in stage.until("ConfigSynced", "False", "WorkersPending")
    stage.until("Ready", "True", "Ready")
    assert time.monotonic() >= began + lease_s
    assert f"the Lease of worker {alive.name} lasts 60 s" in operator.log()
    # From then on an edit is proven as soon as it is in effect.
    began = time.monotonic()
    stage.apply(systemPrompt="Now.")
    stage.until("Ready", "True", "Ready")
    assert time.monotonic() < began + lease_s - 1


def test_a_worker_that_came_while_the_watch_of_leases_was_behind(operator_stage: OperatorStage) -> None:
    """What shows that a worker is past the edit comes after whoever was there before the edit."""
    stage = operator_stage
    port = int(stage.cluster.url.rpartition(":")[2])
    known, new = FakeWorker(stage), FakeWorker(stage)
    known.renew(seen=1)
    with TcpProxy(port) as proxy:
        stage.kubeconfig.write_text(
            stage.kubeconfig.read_text().replace(stage.cluster.url, f"https://127.0.0.1:{proxy.port}")
        )
        operator = stage.start()
        stage.apply()
        stage.until("ConfigSynced", "False", "WorkersPending")
        proxy.freeze()
        new.renew(seen=1)
        known.renew()
        assert operator.metric("konstruct_operator_workers") == 1
        proxy.reset()
        eventually(lambda: operator.metric("konstruct_operator_workers") == 2, what="both Leases")
        stage.apply("eve")  # proof that the operator has looked since
        stage.revision("eve")
        assert stage.condition("ConfigSynced")["status"] == "False"
        new.renew()
        assert stage.until("ConfigSynced", "True", "WorkersSynced") == "2/2 workers"


def test_no_workers(operator_stage: OperatorStage) -> None:
    stage = operator_stage
    stage.start()
    stage.apply()
    assert "worker Deployment" in stage.until("ConfigSynced", "Unknown", "NoWorkers")
    worker = FakeWorker(stage)
    worker.renew(seen=1)
    stage.until("ConfigSynced", "False", "WorkersPending")
    worker.renew()
    stage.until("ConfigSynced", "True", "WorkersSynced")


def test_a_refusal_says_why(operator_stage: OperatorStage) -> None:
    stage = operator_stage
    worker = FakeWorker(stage)
    worker.renew()
    stage.start()
    stage.apply()
    refusal = Refusal(namespace=stage.space, name="ada", revision=stage.revision(), reason="schema 2")
    worker.renew(refused=(refusal,))
    message = stage.until("ConfigSynced", "False", "WorkerRefused")
    assert (worker.name in message, "schema 2" in message) == (True, True)
    eventually(lambda: "WorkerRefused" in stage.events(), what="an Event")
    worker.renew()
    stage.until("ConfigSynced", "True", "WorkersSynced")


def test_more_refusals_than_a_lease_can_name(operator_stage: OperatorStage) -> None:
    stage = operator_stage
    worker = FakeWorker(stage)
    other = Refusal(namespace=stage.space, name="other", revision="0" * 16, reason="x")
    worker.renew(seen=2**60, refused=(other,), refused_total=2)
    operator = stage.start()
    stage.apply()
    stage.until("ConfigSynced", "False", "WorkersPending")
    assert operator.metric("konstruct_operator_unsynced_agents") == 1
    worker.renew(seen=2**60, refused=(other,), refused_total=1)
    stage.until("ConfigSynced", "True", "WorkersSynced")


def test_workers_of_another_release_do_not_count(operator_stage: OperatorStage) -> None:
    stage = operator_stage
    FakeWorker(stage).renew(seen=2**60)
    operator = stage.start(KONSTRUCT_RELEASE="another")
    stage.apply()
    stage.until("ConfigSynced", "Unknown", "NoWorkers")
    assert operator.metric("konstruct_operator_workers") == 0
