"""One of the watched namespaces may not be read: the others are served, and it is said what is missing.

A Role goes with its namespace, or with somebody who tidies up; it comes back with the next `helm upgrade`.
"""

from __future__ import annotations

from orchestrator.asking import worker_status
from orchestrator.main import app
from shared.reply import MessageStatus
from tests.operator.operator_stage import OperatorStage, operator_rbac
from tests.operator.operator_workers import FakeWorker
from tests.operator.worker_stage import AGENT_RULES, Stage
from tests.support.kubernetes import MakeNamespace
from tests.support.tcp_proxy import Mode, TcpProxy
from tests.support.waiting import eventually

pytest_plugins = ["tests.operator.worker_fixtures", "tests.operator.operator_fixtures"]

UNREADABLE = "konstruct_operator_unreadable_namespaces"


def take_rights(stage: OperatorStage, space: str) -> None:
    for kind in ("rolebinding", "role"):
        stage.cluster.kubectl("delete", kind, "--all", f"--namespace={space}")


def give_rights(stage: OperatorStage) -> None:
    stage.cluster.apply(operator_rbac(stage.helm, stage.release, stage.home, stage.watched))


def test_an_operator_serves_the_others_from_its_start(operator_stage: OperatorStage) -> None:
    stage = operator_stage
    open_one, closed = stage.spaces
    FakeWorker(stage).renew(seen=2**60)
    take_rights(stage, closed)
    operator = stage.start()
    stage.apply(space=open_one)
    stage.apply(space=closed)
    stage.until("Ready", "True", "Ready", space=open_one)
    assert f"namespace {closed} is not served, the others are: 403" in operator.log()
    assert operator.metric(UNREADABLE) == 1
    assert operator.healthy()
    assert operator.ready()  # the others are its work
    assert "activeRevision" not in stage.status(space=closed)

    give_rights(stage)
    stage.until("Ready", "True", "Ready", space=closed, within_s=60)
    assert f"namespace {closed} is served again" in operator.log()
    assert operator.metric(UNREADABLE) == 0


def test_an_operator_loses_and_regains_a_namespace(operator_stage: OperatorStage) -> None:
    stage = operator_stage
    open_one, closed = stage.spaces
    FakeWorker(stage).renew(seen=2**60)
    operator = stage.start()
    for space in stage.spaces:
        stage.apply(space=space)
        stage.until("Ready", "True", "Ready", space=space)
    before = stage.revision(space=closed)
    take_rights(stage, closed)
    stage.apply(space=closed, systemPrompt="Later.")
    eventually(lambda: operator.metric(UNREADABLE) == 1, within_s=60, what="the missing right")
    assert stage.status(space=closed)["activeRevision"] == before
    stage.apply(space=open_one, systemPrompt="Now.")
    stage.until("Ready", "True", "Ready", space=open_one)

    give_rights(stage)
    stage.revision(space=closed, other_than=before)
    stage.until("Ready", "True", "Ready", space=closed, within_s=60)
    assert operator.metric(UNREADABLE) == 0


def test_an_operator_with_no_namespace_waits(operator_stage: OperatorStage) -> None:
    stage = operator_stage
    for space in stage.spaces:
        take_rights(stage, space)
    operator = stage.start(ready=False)
    eventually(lambda: "cannot start yet: 403" in operator.log(), what="the reason")
    give_rights(stage)
    eventually(lambda: "working:" in operator.log(), within_s=60, what="its start")


def test_a_worker_serves_the_others(stage: Stage, make_namespace: MakeNamespace) -> None:
    closed = make_namespace()
    stage.namespaces = (stage.tenant, closed)
    stage.operator.apply(stage.tenant, "ada")
    stage.operator.apply(closed, "ada")
    worker = stage.worker().ready()
    assert stage.ask().status is MessageStatus.ANSWERED
    (problem,) = worker_status(app, limit=1)[0].problems
    assert problem.where == f"namespace {closed}"
    assert "403" in problem.message
    assert "Role" in problem.message
    waiting = stage.cell.message("hello", tenant_id=closed)
    stage.cell.submit(waiting)
    eventually(lambda: worker.metric("konstruct_deliveries_put_back_total") >= 2, what="its message waits")
    lease = worker.lease()
    assert lease is not None
    assert set(lease.state.seen) == {stage.tenant}

    stage.grant(closed, AGENT_RULES)
    assert stage.cell.reply(waiting, within_s=60).status is MessageStatus.ANSWERED
    eventually(lambda: not worker_status(app, limit=1)[0].problems, what="no more problem")


def test_a_worker_forgets_what_it_may_not_read_any_more(stage: Stage, make_namespace: MakeNamespace) -> None:
    """It was away, and cannot know what was called in effect meanwhile."""
    closed = make_namespace()
    stage.namespaces = (stage.tenant, closed)
    stage.grant(closed, AGENT_RULES)
    stage.operator.apply(stage.tenant, "ada")
    old = stage.operator.apply(closed, "ada")
    with TcpProxy(int(stage.cluster.url.rpartition(":")[2])) as proxy:
        worker = stage.worker(kubeconfig=stage.kubeconfig_through(proxy.port)).ready()
        assert stage.ask(tenant=closed).revision == old.revision
        proxy.set(Mode.BLACKHOLE)
        eventually(lambda: worker.probe("/readyz") == 503, what="its Lease running out")
        edit = stage.operator.apply(closed, "ada", systemPrompt="The present.")
        for kind in ("rolebinding", "role"):
            stage.cluster.kubectl("delete", kind, "--all", f"--namespace={closed}")
        proxy.set(Mode.PASS)
        worker.ready(within_s=60)
        assert stage.ask().status is MessageStatus.ANSWERED
        waiting = stage.cell.message("hello", tenant_id=closed)
        stage.cell.submit(waiting)
        put_back = worker.metric("konstruct_deliveries_put_back_total")
        eventually(lambda: worker.metric("konstruct_deliveries_put_back_total") > put_back)
        stage.grant(closed, AGENT_RULES)
        assert stage.cell.reply(waiting, within_s=60).revision == edit.revision
