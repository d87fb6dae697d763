"""Two Agents of one name in one tenant, and two operators of one namespace."""

from __future__ import annotations

from datetime import UTC, datetime

from konstruct_operator.__main__ import EXIT_USAGE
from shared.kube.names import OPERATOR_LEASE, lease_path, leases_path
from shared.kube.objects import micro_time
from shared.models import TENANT_LABEL
from tests.operator.operator_stage import OperatorStage, both_modes
from tests.operator.operator_workers import FakeWorker
from tests.support.kubernetes import MakeNamespace
from tests.support.waiting import eventually

pytest_plugins = ["tests.operator.operator_fixtures"]

NOW = micro_time(datetime.now(UTC))
"""A time that a Lease may have."""


@both_modes
def test_the_oldest_is_served_and_the_newer_takes_over(operator_stage: OperatorStage) -> None:
    stage = operator_stage
    mine, other = stage.spaces
    FakeWorker(stage).renew(seen=2**60)
    stage.relabel(other, mine)
    operator = stage.start()
    stage.apply(space=mine, systemPrompt="mine")
    stage.until("Ready", "True", "Ready", space=mine)
    stage.wait_for_the_next_second()
    stage.apply(space=other, systemPrompt="other")

    message = stage.until("Accepted", "False", "NameTaken", space=other)
    assert f"{mine}/ada" in message
    assert stage.config_maps(other) == {}
    assert "activeRevision" not in stage.status(space=other)
    assert f"{other}/ada" in stage.until("NameConflict", "True", "NameTaken", space=mine)
    stage.until("Ready", "True", "Ready", space=mine)

    operator.stop()  # the order of a list decides nothing
    stage.start()
    stage.apply(space=other, systemPrompt="other, edited")
    stage.until("Accepted", "False", "NameTaken", space=other)

    stage.delete(space=mine)
    stage.until("Ready", "True", "Ready", space=other)
    stage.until("NameConflict", "False", "NoConflict", space=other)
    assert len(stage.config_maps(other)) == 2
    eventually(lambda: "NameTaken" in stage.events(space=other), what="an Event")


def test_a_relabelled_namespace_gives_its_names_up(operator_stage: OperatorStage) -> None:
    stage = operator_stage
    mine, other = stage.spaces
    stage.relabel(other, mine)
    stage.start()
    stage.apply(space=mine)
    stage.revision(space=mine)
    stage.wait_for_the_next_second()
    stage.apply(space=other)
    stage.until("Accepted", "False", "NameTaken", space=other)
    stage.relabel(mine, None)
    stage.until("Accepted", "False", "NoTenant", space=mine, within_s=40)
    assert "activeRevision" not in stage.status(space=mine)
    stage.until("Accepted", "True", "Accepted", space=other)
    assert stage.revision(space=other)


@both_modes
def test_a_second_operator_leaves_them_to_the_first_and_says_by_whom(
    operator_stage: OperatorStage, make_namespace: MakeNamespace
) -> None:
    stage = operator_stage
    first = stage.start()
    stage.apply()
    revision = stage.revision()
    home = make_namespace()
    second = stage.start(
        ready=False,
        KONSTRUCT_KUBECONFIG=str(stage.account(home, "second", stage.watched)),
        KONSTRUCT_POD_NAMESPACE=home,
        KONSTRUCT_RELEASE="second",
    )
    said = f"claimed by the operator of release {stage.release} in namespace {stage.home}"
    eventually(lambda: said in second.log(), within_s=40, what="a line that says by whom")
    assert "watch.namespaces" in second.log()
    eventually(second.healthy, within_s=20, what="a second one that waits")
    assert not second.ready()

    stage.apply(systemPrompt="edited")
    edited = stage.revision(other_than=revision)  # the first goes on
    assert second.metric("konstruct_operator_refused_namespaces") > 0
    first.stop()
    claimed = lease_path(stage.spaces[0], OPERATOR_LEASE)
    assert stage.api.find(claimed) is None or "/second" in str(stage.api.find(claimed))
    stage.apply(systemPrompt="edited again")
    stage.revision(other_than=edited, within_s=60)  # what the first gave up is the second's
    eventually(second.ready, within_s=60, what="a second one that works")


def test_an_operator_of_all_namespaces_leaves_those_that_are_claimed(
    operator_stage: OperatorStage, namespace: str, make_namespace: MakeNamespace
) -> None:
    """An operator of all namespaces meets one that serves namespaces of its own."""
    stage = operator_stage
    stage.start()
    stage.apply()
    stage.revision()
    free = make_namespace(labels={TENANT_LABEL: "free"})
    wide = OperatorStage(
        cluster=stage.cluster,
        api=stage.api,
        helm=stage.helm,
        folder=stage.folder,
        home=namespace,
        spaces=(*stage.spaces, free),
        clusterwide=True,
        release="wide",
        end=stage.end,
    ).prepare()
    other = wide.start()
    said = f"release {stage.release} in namespace {stage.home}"
    eventually(lambda: said in other.log(), within_s=40, what="a line that says by whom")
    wide.apply(space=free)
    assert wide.revision(space=free)
    assert other.ready()


ABSURD: dict[str, dict[str, object]] = {
    "another holder": {"holderIdentity": "mallory/release", "leaseDurationSeconds": 60, "renewTime": NOW},
    "until the year 9999": {
        "holderIdentity": "mallory",
        "leaseDurationSeconds": 2**31 - 1,
        "renewTime": "9999-12-31T23:59:59.999999Z",
    },
    "for 68 years": {"holderIdentity": "m" * 1000, "leaseDurationSeconds": 2**31 - 1, "renewTime": NOW},
    "since the year 1": {
        "holderIdentity": "mallory",
        "leaseDurationSeconds": 1,
        "renewTime": "0001-01-01T00:00:00.000000Z",
    },
    "nothing at all": {},
    "no time": {"holderIdentity": "mallory", "leaseDurationSeconds": 1},
    "in another time zone": {
        "holderIdentity": "mallory",
        "leaseDurationSeconds": 2**31 - 1,
        "renewTime": "9999-12-31T23:59:59.999999-12:00",
    },
}
"""What a tenant's people may write into a Lease of the operator's name, in their own namespace."""

AT_A_START = ("another holder", "until the year 9999", "for 68 years")
"""Those that an operator finds at its start; the others are written while it runs."""


@both_modes
def test_no_lease_that_a_tenant_writes_keeps_the_operator_from_the_others(
    operator_stage: OperatorStage,
) -> None:
    stage = operator_stage
    mine, other = stage.spaces
    FakeWorker(stage).renew(seen=2**60)
    stage.apply(space=mine)
    operator = None
    for number, name in enumerate(AT_A_START):
        if operator is not None:
            operator.stop()
        stage.api.delete(lease_path(mine, OPERATOR_LEASE))
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": OPERATOR_LEASE, "namespace": mine},
            "spec": ABSURD[name],
        }
        made = stage.api.create(leases_path(mine), lease)
        assert made.is_success, (name, made.text)
        operator = stage.start()
        stage.apply(space=other, systemPrompt=f"edit {number}")
        stage.until("Ready", "True", "Ready", space=other)
    assert operator is not None

    # While it runs: its own claim is taken from it, again and again.
    for name, spec in ABSURD.items():
        answer = stage.api.merge(lease_path(mine, OPERATOR_LEASE), {"spec": spec})
        assert answer.is_success, (name, answer.text)
    renewed = stage.audited()
    eventually(
        lambda: any(
            event["objectRef"]["resource"] == "leases" and event["objectRef"].get("namespace") == mine
            for event in stage.cluster.audit_events()[renewed:]
            if "operator" in event["user"]["username"]
        ),
        within_s=40,
        what="a renewal",
    )
    stage.apply(space=other, systemPrompt="after all")
    stage.until("Ready", "True", "Ready", space=other)
    assert not operator.ended()
    assert "Traceback" not in operator.log()

    # Once it is gone the namespace is served like any other.
    stage.api.delete(lease_path(mine, OPERATOR_LEASE))
    stage.until("Ready", "True", "Ready", space=mine, within_s=60)


def test_a_bad_configuration_is_one_clear_line(operator_stage: OperatorStage) -> None:
    stage = operator_stage
    for more, expected in (
        ({"KONSTRUCT_POD_NAMESPACE": ""}, "KONSTRUCT_POD_NAMESPACE: is needed"),
        ({"KONSTRUCT_OPERATOR_LISTEN": "here"}, "here is no address"),
        ({"KONSTRUCT_WATCH_NAMESPACE": "a"}, "did you mean KONSTRUCT_WATCH_NAMESPACES?"),
    ):
        process = stage.start(ready=False, **more)
        eventually(lambda started=process: started.process.exit_code() is not None, what="its end")  # type: ignore[misc]
        assert process.process.exit_code() == EXIT_USAGE
        assert expected in process.log()
        assert "Traceback" not in process.log()
