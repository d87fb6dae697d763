"""The operator's metrics: every look is counted and timed, on series that were there from the start."""

from __future__ import annotations

from shared.kube.leases import Refusal
from tests.operator.operator_stage import OperatorStage
from tests.operator.operator_workers import FakeWorker
from tests.support.metrics import scrape, total
from tests.support.waiting import eventually

pytest_plugins = ["tests.operator.operator_fixtures"]


def test_every_look_is_counted_on_series_from_the_start(operator_stage: OperatorStage) -> None:
    stage = operator_stage
    operator = stage.start()
    before = scrape(operator.url)
    looks = "konstruct_operator_reconciles_total"
    assert total(before, "konstruct_build_info", component="operator") == 1
    assert total(before, "konstruct_operator_agents") == total(before, "konstruct_operator_workers") == 0

    worker, silent = FakeWorker(stage), FakeWorker(stage, duration_s=1)
    stage.apply()
    first = stage.revision()
    eventually(lambda: operator.metric("konstruct_operator_unsynced_agents") == 1, what="an unsynced Agent")
    refusal = Refusal(namespace=stage.space, name="ada", revision=first, reason="it reads badly")
    worker.renew(refused=(refusal,))
    stage.until("ConfigSynced", "False", "WorkerRefused")
    worker.renew()
    stage.until("Ready", "True", "Ready")
    silent.renew()
    eventually(lambda: operator.metric("konstruct_operator_workers", state="silent") == 1, what="a silence")
    assert operator.metric("konstruct_operator_workers", state="alive") == 1
    assert operator.metric("konstruct_operator_agents", ready="true") == 1
    assert operator.metric("konstruct_operator_unsynced_agents") == 0
    stage.apply(name="bert", systemPrompt="one")
    stage.revision("bert")
    stage.relabel(stage.space, None)
    stage.until("Accepted", "False", "NoTenant", "bert")
    stage.delete()
    eventually(lambda: operator.metric("konstruct_operator_agents") == 1, what="the end of an Agent")

    samples = scrape(operator.url)
    assert total(samples, looks, outcome="changed") >= 4
    eventually(
        lambda: (
            operator.metric(looks) == operator.metric("konstruct_operator_reconcile_duration_seconds_count")
        ),
        what="a time for every look",
    )
    assert samples.keys() == before.keys(), "a series appeared that was not made at the start"
