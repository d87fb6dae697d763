"""A worker that can reach Redis, PostgreSQL and the pool, but not the Kubernetes API.

The operator may go on without a worker whose Lease it has not seen renewed for as long as the Lease lasts
and whose Pod is gone; then it says that an edit is in effect everywhere. From that moment on nothing may
be answered from before the edit, whatever the worker that is cut off knows.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from shared.kube.names import lease_path
from shared.models import KonstructMessage
from shared.reply import MessageStatus
from tests.operator.operator_stage import AdminApi, OperatorStage
from tests.operator.worker_stage import LEASE_S, Stage, Worker
from tests.support.tcp_proxy import Mode, TcpProxy
from tests.support.waiting import eventually

pytest_plugins = ["tests.operator.worker_fixtures", "tests.operator.operator_fixtures"]

EVERY_S = 0.05
"""Time between two messages."""


@dataclass
class Load:
    """Messages that are being sent, each in a thread of its own."""

    stage: Stage
    sent: list[KonstructMessage] = field(default_factory=list)
    end: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.end.wait(EVERY_S):
            message = self.stage.cell.message("hello", tenant_id=self.stage.tenant)
            self.stage.cell.submit(message)
            self.sent.append(message)


@contextlib.contextmanager
def load(stage: Stage) -> Iterator[Load]:
    """Send messages steadily."""
    made = Load(stage)
    thread = threading.Thread(target=made.run)
    thread.start()
    try:
        yield made
    finally:
        made.end.set()
        thread.join()


def taken(stage: Stage) -> list[tuple[datetime, str, float]]:
    """When each answered message was claimed for the last time, its revision, and how long it took in all."""
    rows = stage.cell.database.rows(
        "select started_at, revision, extract(epoch from finished_at - received_at)::float8 from messages"
        " where status = 'answered' order by seq"
    )
    return [(row[0], str(row[1]), float(str(row[2]))) for row in rows if isinstance(row[0], datetime)]


def both_answer(first: Worker, second: Worker) -> None:
    before = [worker.metric("konstruct_messages_total") for worker in (first, second)]
    eventually(
        lambda: all(
            worker.metric("konstruct_messages_total") > count
            for worker, count in zip((first, second), before, strict=True)
        ),
        what="both workers answer",
    )


def silent_for(stage: Stage, worker: Worker, seconds: float) -> float:
    """Wait as the operator does: until no renewal was seen for so long; return how long that took."""
    lease = worker.lease()
    began = changed = time.monotonic()
    while time.monotonic() < changed + seconds:
        now = worker.lease()
        if now and lease and now.renewed != lease.renewed:
            lease, changed = now, time.monotonic()
        assert changed < began + 10 * seconds, "it is not silent"
        time.sleep(0.05)
    return time.monotonic() - began


def test_a_worker_that_is_cut_off_hands_over_and_never_answers_from_the_past(stage: Stage) -> None:
    old = stage.operator.apply(stage.tenant, "ada")
    with TcpProxy(int(stage.cluster.url.rpartition(":")[2])) as proxy, contextlib.ExitStack() as sending:
        there = stage.worker().ready()
        cut = stage.worker(kubeconfig=stage.kubeconfig_through(proxy.port)).ready()
        messages = sending.enter_context(load(stage))
        both_answer(there, cut)

        proxy.set(Mode.BLACKHOLE)
        edit = stage.operator.apply(stage.tenant, "ada", systemPrompt="The present.")
        there.sees(stage.tenant, edit)
        # Its Pod is deleted by force, and runs on behind the partition.
        silent_for(stage, cut, LEASE_S)
        stage.api.delete(lease_path(stage.release, cut.pod))
        proven = datetime.now(UTC)  # from here on the operator says: in effect on every worker

        assert cut.probe("/readyz") == 503
        assert cut.probe("/healthz") == 200
        so_far = len(messages.sent)
        eventually(lambda: len(messages.sent) >= so_far + 40)
        assert cut.seen(stage.tenant) == 0  # it could not write a Lease either
        done = cut.metric("konstruct_messages_total")
        for message in messages.sent[so_far : so_far + 40]:
            reply = stage.cell.reply(message)
            assert (reply.status, reply.revision) == (MessageStatus.ANSWERED, edit.revision)
        assert cut.metric("konstruct_messages_total") == done

        # Healed: it comes back by itself, and catches up before it answers.
        proxy.set(Mode.PASS)
        cut.ready()
        cut.sees(stage.tenant, edit)
        both_answer(there, cut)

    for message in messages.sent:
        assert stage.cell.reply(message).status is MessageStatus.ANSWERED
    answers = taken(stage)
    assert {revision for _, revision, _ in answers} == {old.revision, edit.revision}
    assert [revision for at, revision, _ in answers if at >= proven and revision != edit.revision] == []
    # Nobody waited for the partition to heal: what the closed worker held went back at once.
    assert max(seconds for _, _, seconds in answers) < 2 * LEASE_S, answers


def test_an_operator_that_never_saw_the_worker_proves_nothing_while_it_answers(
    stage: Stage, agent_resource: None, helm: Path, tmp_path: Path
) -> None:
    """The operator is replaced, and meanwhile a worker is cut off and its Lease goes with its Pod."""
    lease_s, api = 12, AdminApi(stage.cluster)
    stage.end.callback(api.close)
    operators = OperatorStage(
        cluster=stage.cluster,
        api=api,
        helm=helm,
        folder=tmp_path,
        home=stage.release,
        spaces=(stage.tenant,),
        clusterwide=False,
        end=stage.end,
    ).prepare()
    operators.relabel(stage.tenant, stage.tenant)
    with TcpProxy(int(stage.cluster.url.rpartition(":")[2])) as proxy, contextlib.ExitStack() as sending:
        first = operators.start()
        there = stage.worker(lease_s=lease_s).ready()
        cut = stage.worker(kubeconfig=stage.kubeconfig_through(proxy.port), lease_s=lease_s).ready()
        operators.apply(systemPrompt="The past.")
        operators.until("Ready", "True", "Ready")
        old = operators.revision()
        messages = sending.enter_context(load(stage))
        both_answer(there, cut)

        first.stop()
        proxy.set(Mode.BLACKHOLE)
        stage.api.delete(lease_path(stage.release, cut.pod))
        operators.apply(systemPrompt="The present.")
        operators.start(ready=False, KONSTRUCT_WORKER_LEASE_S=str(lease_s))
        edit = operators.revision(other_than=old)
        assert operators.until("ConfigSynced", "True", "WorkersSynced") == "1/1 workers"
        proven = datetime.now(UTC)
        so_far = len(messages.sent)
        eventually(lambda: len(messages.sent) >= so_far + 20)

    for message in messages.sent:
        assert stage.cell.reply(message).status is MessageStatus.ANSWERED
    answers = taken(stage)
    assert {revision for _, revision, _ in answers} == {old, edit}
    assert {revision for at, revision, _ in answers if at >= proven} == {edit}


def test_a_worker_that_is_alone_catches_up_before_it_answers(stage: Stage) -> None:
    """Messages wait for it, and nobody else is there to take them."""
    old = stage.operator.apply(stage.tenant, "ada")
    stage.operator.apply(stage.tenant, "bob")
    with TcpProxy(int(stage.cluster.url.rpartition(":")[2])) as proxy:
        cut = stage.worker(kubeconfig=stage.kubeconfig_through(proxy.port)).ready()
        assert stage.ask().revision == old.revision
        read = len(stage.asked("configmaps", "get"))
        proxy.set(Mode.BLACKHOLE)
        eventually(lambda: cut.probe("/readyz") == 503)
        waiting = [stage.cell.message(f"{n}", tenant_id=stage.tenant) for n in range(20)]
        stage.cell.submit(*waiting)
        edit = stage.operator.apply(stage.tenant, "ada", systemPrompt="The present.")
        proxy.set(Mode.PASS)
        assert {stage.cell.reply(message).revision for message in waiting} == {edit.revision}
        # Everything was listed anew; only what had changed was read.
        assert len(stage.asked("agents", "list")) == 2
        assert len(stage.asked("configmaps", "get")) == read + 2
