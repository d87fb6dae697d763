"""A worker's Lease: what it says, how often it is written, and how it ends."""

from __future__ import annotations

import itertools
import os
import signal
from datetime import datetime

from shared.kube.names import lease_path
from shared.prompt import TRANSPARENCY_CLAUSE_VERSION
from shared.reply import MessageStatus
from tests.operator.worker_stage import LEASE_S, Stage
from tests.support.waiting import eventually

pytest_plugins = ["tests.operator.worker_fixtures"]

EDITS = 200


def renewals(stage: Stage, pod: str) -> list[float]:
    """When the API server was asked to write the Lease of `pod`, in seconds."""
    return sorted(
        datetime.fromisoformat(event["requestReceivedTimestamp"]).timestamp()
        for event in stage.asked("leases", "patch", name=pod)
    )


def test_it_is_renewed_in_time_and_tells_what_is_in_effect(stage: Stage) -> None:
    written = stage.operator.apply(stage.tenant, "ada")
    worker = stage.worker(KONSTRUCT_RELEASE="blue").ready()
    worker.sees(stage.tenant, written)
    stored = stage.api.find(lease_path(stage.release, worker.pod))
    assert stored is not None
    labels = {"konstruct.dev/release": "blue", "app.kubernetes.io/component": "worker"}
    assert stored["metadata"]["labels"] == labels
    lease = worker.lease()
    assert lease is not None
    assert (lease.holder, lease.duration_s) == (worker.pod, LEASE_S)
    assert lease.state.clause == TRANSPARENCY_CLAUSE_VERSION
    assert (lease.state.refused, lease.state.refused_total) == ((), 0)

    before = len(renewals(stage, worker.pod))
    eventually(lambda: len(renewals(stage, worker.pod)) >= before + 5, within_s=20)
    times = renewals(stage, worker.pod)[before:]
    assert max(b - a for a, b in itertools.pairwise(times)) < LEASE_S


def test_a_burst_of_edits_is_told_in_few_writes(stage: Stage) -> None:
    last = stage.operator.apply(stage.tenant, "ada")
    worker = stage.worker(lease_s=30).ready()
    before = len(renewals(stage, worker.pod))
    for number in range(EDITS):
        last = stage.operator.apply(stage.tenant, "ada", systemPrompt=f"Edit {number}.")
    worker.sees(stage.tenant, last)
    assert stage.ask().revision == last.revision
    times = renewals(stage, worker.pod)[before:]
    assert len(times) >= 2
    assert len(times) <= 4 * (times[-1] - times[0]) + 2


def test_a_clean_exit_releases_it_after_the_last_message(stage: Stage) -> None:
    stage.operator.apply(stage.tenant, "ada")
    worker = stage.worker(KONSTRUCT_DRAIN_S="20").ready()
    stage.cell.pool.gate.clear()
    message = stage.cell.message("hello", tenant_id=stage.tenant)
    stage.cell.submit(message)
    eventually(lambda: stage.cell.pool.waiting)
    os.kill(worker.process.pid, signal.SIGTERM)
    eventually(lambda: worker.probe("/readyz") == 503)
    before = len(renewals(stage, worker.pod))
    eventually(lambda: len(renewals(stage, worker.pod)) > before, what="a renewal while it drains")
    lease = worker.lease()
    assert lease is not None
    assert lease.holder == worker.pod
    stage.cell.pool.gate.set()
    assert stage.cell.reply(message).status is MessageStatus.ANSWERED
    eventually(lambda: worker.lease() is None, what="the Lease is gone")
    worker.process.stop()
    asked = [event["verb"] for event in stage.asked("leases", "patch", "delete", name=worker.pod)]
    assert asked[-2:] == ["patch", "delete"]  # the farewell, then the end


def test_without_the_right_to_write_it_no_message_is_taken(stage: Stage) -> None:
    stage.operator.apply(stage.tenant, "ada")
    roles = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{stage.release}/rolebindings"
    bindings = stage.api.find(roles)
    assert bindings is not None
    for binding in bindings["items"]:
        stage.api.delete(f"{roles}/{binding['metadata']['name']}")
    worker = stage.worker()
    message = stage.cell.message("hello", tenant_id=stage.tenant)
    stage.cell.submit(message)
    eventually(lambda: "cannot be renewed: 403" in worker.log(), what="the log says why")
    assert worker.probe("/readyz") == 503
    assert worker.probe("/healthz") == 200
    assert stage.cell.queued() == 1  # not even taken off the queue
    stage.grant_leases()
    assert stage.cell.reply(message).status is MessageStatus.ANSWERED
