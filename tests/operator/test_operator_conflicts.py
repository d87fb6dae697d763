"""Two Agents of one name in one tenant, and two operators of one namespace."""

from __future__ import annotations

from pathlib import Path

from konstruct_operator.__main__ import EXIT_SERVED, EXIT_USAGE
from shared.kube.names import OPERATOR_LEASE, lease_path
from tests.operator.operator_stage import OperatorStage, both_modes
from tests.operator.operator_workers import FakeWorker
from tests.support.kubernetes import MakeNamespace
from tests.support.waiting import eventually

pytest_plugins = ["tests.operator.operator_fixtures"]


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
def test_a_second_operator_refuses_and_says_by_whom(
    operator_stage: OperatorStage, make_namespace: MakeNamespace, tmp_path: Path
) -> None:
    stage = operator_stage
    first = stage.start()
    home = make_namespace()
    second = stage.start(
        ready=False,
        KONSTRUCT_KUBECONFIG=str(stage.account(home, "second", stage.watched)),
        KONSTRUCT_POD_NAMESPACE=home,
        KONSTRUCT_RELEASE="second",
    )
    eventually(lambda: second.process.exit_code() is not None, within_s=40, what="its end")
    assert second.process.exit_code() == EXIT_SERVED
    message = second.log().splitlines()[-1]
    assert f"served by the operator of release {stage.release} in namespace {stage.home}" in message
    assert "watch.namespaces" in message

    stage.apply()
    stage.revision()  # the first goes on
    first.stop()
    claimed = stage.spaces[0]
    assert stage.api.find(lease_path(claimed, OPERATOR_LEASE)) is None


def test_a_claim_that_appears_later_is_respected(operator_stage: OperatorStage, namespace: str) -> None:
    """An operator of all namespaces meets one that serves a namespace of its own."""
    stage = operator_stage
    stage.start()
    wide = OperatorStage(
        cluster=stage.cluster,
        api=stage.api,
        helm=stage.helm,
        folder=stage.folder,
        home=namespace,
        spaces=stage.spaces,
        clusterwide=True,
        release="wide",
        end=stage.end,
    ).prepare()
    refused = wide.start(ready=False)
    eventually(lambda: refused.process.exit_code() is not None, within_s=40, what="its end")
    assert refused.process.exit_code() == EXIT_SERVED
    assert f"release {stage.release} in namespace {stage.home}" in refused.log()


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
