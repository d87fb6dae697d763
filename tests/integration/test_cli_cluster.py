"""The command from outside a cluster, with a whole stack behind it: only the way into the Pod is made up."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from konstruct_cli.stack.state import StateDir
from tests.support.pods_exec import PodsExec, pod, pods_exec
from tests.support.providers import StubProvider, answer
from tests.support.stack_command import Result, environment, konstruct, up
from tests.support.stack_provider import provider_in_thread

EXAMPLES = Path(__file__).parents[2] / "examples" / "agents"

TO_ADA = ("--tenant", "acme", "--agent", "ada")


@dataclass
class Release:
    """A release in the cluster, and a laptop that knows nothing of it but the way to the cluster."""

    cluster: PodsExec
    model: StubProvider
    laptop: Path

    def konstruct(self, command: str, *arguments: str, stdin: str = "") -> Result:
        return konstruct(command, *self.cluster.options, *arguments, cwd=self.laptop, stdin=stdin)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    folder, laptop = tmp_path_factory.mktemp("pod"), tmp_path_factory.mktemp("laptop")
    shutil.copytree(EXAMPLES, folder / "agents")
    with (
        provider_in_thread("ollama", "qwen-stub") as model,
        up(folder, OLLAMA_BASE_URL=model.root) as stack,
    ):
        stack.says("Ctrl-C ends it.")
        info = StateDir(folder / ".konstruct").read()
        assert info is not None
        # A Pod finds the stack by its environment, in a folder that holds no state of a local one.
        inside = tmp_path_factory.mktemp("inside")
        with pods_exec(inside, environment(**info.environment())) as cluster:
            cluster.pods.append(pod("worker-2", ready=False))
            yield Release(cluster, model, laptop)


def test_send_prints_the_reply_and_its_envelope(release: Release) -> None:
    release.model.script.append(answer("Grüße.\nThen taste."))
    result = release.konstruct("send", *TO_ADA, "-", stdin="Schöne $(neue) Welt?\n")
    assert (result.code, result.out) == (0, "Grüße.\nThen taste.\n")
    assert "qwen-stub (group fast)" in result.err
    assert release.model.requests[-1]["messages"][-1]["content"] == "Schöne $(neue) Welt?\n"


def test_a_message_that_is_not_answered_is_code_4_and_a_wrong_one_code_2(release: Release) -> None:
    result = release.konstruct("send", "--tenant", "globex", "--agent", "ada", "--json", "Hello")
    assert (result.code, json.loads(result.out)["reason"]) == (4, "agent_unknown")
    sent = ("--message-id", "m-1", "--thread", "t-1", "--sender", "sam")
    assert release.konstruct("send", *TO_ADA, *sent, "One").code == 0
    other = release.konstruct("send", *TO_ADA, *sent, "Two")
    assert other.code == 2
    assert other.err.startswith("konstruct: ")
    assert "send this one with a new id" in other.err


def test_a_cut_connection_costs_no_second_answer(release: Release) -> None:
    asked = release.model.count
    release.cluster.cut = 1
    result = release.konstruct("send", *TO_ADA, "Hello")
    assert (result.code, release.model.count - asked) == (0, 1)


def test_chat_keeps_the_thread(release: Release) -> None:
    release.model.script.extend([answer("Hello Sam."), answer("Sam.")])
    result = release.konstruct("chat", *TO_ADA, stdin="I am Sam.\nWhat is my name?\n/quit\n")
    assert (result.code, result.out) == (0, "Hello Sam.\nSam.\n")
    said = [each["content"] for each in release.model.requests[-1]["messages"][1:]]
    assert said == ["I am Sam.", "Hello Sam.", "What is my name?"]


def test_status_is_the_pods(release: Release) -> None:
    result = release.konstruct("status", "--json")
    found = json.loads(result.out)
    assert (result.code, found["ok"], found["cluster"]) == (0, True, None)
    assert found["source"] == "release konstruct in namespace konstruct, as pod worker-1 sees it"
    people = release.konstruct("status")
    assert people.code == 0
    assert "PostgreSQL" in people.out


def test_a_message_is_explained_in_the_pod(release: Release) -> None:
    release.model.script.append(answer("Grind finer."))
    assert release.konstruct("send", *TO_ADA, "--message-id", "m-2", "My coffee is sour").code == 0
    result = release.konstruct("explain", "--tenant", "acme", "--json", "m-2")
    told = json.loads(result.out)
    assert (result.code, told["proof"]["verdict"], told["reply"]) == (0, "proved", None)
    assert [call["outcome"] for call in told["attempts"]] == ["ok"]
    people = release.konstruct("explain", "--tenant", "acme", "--text", "m-2")
    assert people.code == 0
    assert "--- reply ---\nGrind finer.\n" in people.out
    assert told["documents"]["identity_json"] in people.out
    unknown = release.konstruct("explain", "--tenant", "globex", "m-2")
    assert (unknown.code, unknown.out) == (2, "")
    assert unknown.err.startswith("konstruct: tenant globex has no message m-2")
