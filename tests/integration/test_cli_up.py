"""The local stack and the commands that talk to it, as processes: what they do and how they end.

Two stub providers stand in for Anthropic and Ollama, so that replies are known and quick. The demo's test
runs on the small model.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from konstruct_cli.stack.state import StackInfo, StateDir
from tests.support.imports import HEAVY, QUEUE, imported, refuse
from tests.support.providers import StubProvider, answer, status
from tests.support.stack_command import Up, konstruct, measured, up
from tests.support.stack_lifeline import free, wait_free
from tests.support.stack_provider import provider_in_thread

EXAMPLES = Path(__file__).parents[2] / "examples" / "agents"

TO_ADA = ("--tenant", "acme", "--agent", "ada")


@dataclass
class Stack:
    """A running stack and its providers."""

    folder: Path
    up: Up
    quality: StubProvider
    fast: StubProvider

    @property
    def info(self) -> StackInfo:
        found = StateDir(self.folder / ".konstruct").read()
        assert found is not None
        return found


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Run one stack for the tests of the commands; it is ended with Ctrl-C and must leave nothing."""
    folder = tmp_path_factory.mktemp("up")
    shutil.copytree(EXAMPLES, folder / "agents")
    with (
        provider_in_thread("anthropic", "claude-stub") as quality,
        provider_in_thread("ollama", "qwen-stub") as fast,
        up(
            folder,
            "--json",
            ANTHROPIC_API_KEY="sk-stub",
            KONSTRUCT_ANTHROPIC_BASE_URL=quality.root,
            OLLAMA_BASE_URL=fast.root,
        ) as running,
    ):
        running.says("Ctrl-C ends it.")
        yield Stack(folder, running, quality, fast)
        assert running.end(signal.SIGINT) == 0
        assert free(folder / ".konstruct" / "lock"), "a process of the stack is left"
        assert not (folder / ".konstruct" / "stack.json").exists()
        assert "SIGINT: everything is stopped." in running.err


@pytest.fixture(autouse=True)
def _healthy(request: pytest.FixtureRequest) -> None:
    if "stack" in request.fixturenames:
        found: Stack = request.getfixturevalue("stack")
        for provider in (found.quality, found.fast):
            provider.script.clear()
            provider.requests.clear()


def test_up_says_what_runs_and_what_to_do_next(stack: Stack) -> None:
    public = json.loads(stack.up.out)
    assert public["ok"] is True
    assert public["pids"] == stack.info.pids
    assert set(public["pids"]) == {"PostgreSQL", "Redis", "llm-pool", "worker"}, (
        "Ollama is set: no small model"
    )
    assert "konstruct send --tenant acme --agent ada" in stack.up.err
    assert "a very small model" not in stack.up.err


def test_up_shows_no_secret(stack: Stack) -> None:
    said = (
        stack.up.out
        + stack.up.err
        + "".join(log.read_text() for log in (stack.folder / ".konstruct" / "logs").iterdir())
    )
    secrets = StateDir(stack.folder / ".konstruct").secrets().model_dump().values()
    assert [secret for secret in (*secrets, "sk-stub") if secret in said] == []


def test_send_prints_the_reply_as_data_and_the_envelope_as_talk(stack: Stack) -> None:
    stack.quality.script.append(answer("Grind finer.\nThen taste."))
    result = konstruct("send", *TO_ADA, "My coffee is sour", cwd=stack.folder)
    assert (result.code, result.out) == (0, "Grind finer.\nThen taste.\n")
    assert "claude-stub (group quality)" in result.err
    assert "degraded" not in result.err


def test_send_json_is_the_whole_reply_and_says_when_another_group_answered(stack: Stack) -> None:
    stack.quality.script.append(status(429, retry_after="1"))
    stack.fast.script.append(answer("Espresso."))
    result = konstruct("send", *TO_ADA, "--json", "-", stdin="What shall I drink?\n", cwd=stack.folder)
    reply = json.loads(result.out)
    assert result.code == 0
    assert (reply["text"], reply["status"], reply["model"]) == ("Espresso.", "answered", "qwen-stub")
    assert (reply["requested_group"], reply["served_group"]) == ("quality", "fast")
    assert (reply["degraded"], reply["fallback_reason"]) == (True, "rate_limited")
    rendered = konstruct("render", "agents/acme/ada.yaml", "--json", cwd=stack.folder)
    (agent,) = json.loads(rendered.out)["agents"]
    assert (reply["revision"], reply["prompt_sha256"]) == (agent["revision"], agent["prompt_sha256"])
    assert stack.fast.requests[0]["messages"][0]["content"] == agent["prompt"]


@pytest.mark.parametrize(("tenant", "agent"), [("acme", "eve"), ("globex", "ada")])
def test_an_agent_that_the_tenant_does_not_have_is_code_4(stack: Stack, tenant: str, agent: str) -> None:
    result = konstruct("send", "--tenant", tenant, "--agent", agent, "Hello", cwd=stack.folder)
    assert result.code == 4
    assert "failed (agent_unknown)" in result.err
    assert stack.quality.count + stack.fast.count == 0


def test_one_message_id_is_one_message(stack: Stack) -> None:
    stack.quality.script.append(answer("Once."))
    message = (*TO_ADA, "--message-id", "m-1", "--thread", "t-1", "--sender", "sam")
    first, second = (konstruct("send", *message, "Hello", cwd=stack.folder) for _ in range(2))
    assert (first.out, second.out) == ("Once.\n", "Once.\n")
    assert stack.quality.count == 1
    other = konstruct("send", *message, "Something else", cwd=stack.folder)
    assert other.code == 2
    assert "send this one with a new id" in other.err


def test_no_reply_in_time_is_code_5_and_says_how_to_get_it_later(stack: Stack) -> None:
    stack.quality.script.append(answer("Late.", delay_s=2))
    message = (*TO_ADA, "--message-id", "m-late", "--thread", "t-late", "--sender", "sam", "Hello")
    result = konstruct("send", *message, "--timeout", "0.3", cwd=stack.folder)
    assert (result.code, result.out) == (5, "")
    assert "Message m-late of thread t-late is recorded" in result.err
    assert konstruct("send", *message, cwd=stack.folder).out == "Late.\n"


def test_chat_keeps_the_thread_and_reads_a_pipe(stack: Stack) -> None:
    stack.quality.script.extend([answer("Hello Sam."), answer("Sam.")])
    lines = "I am Sam.\n\n   \nWhat is my name?\n/quit\nnever sent\n"
    result = konstruct("chat", *TO_ADA, stdin=lines, cwd=stack.folder)
    assert (result.code, result.out) == (0, "Hello Sam.\nSam.\n")
    said = [
        message["content"] for message in stack.quality.requests[1]["messages"] if message["role"] != "system"
    ]
    assert [text if isinstance(text, str) else text[0]["text"] for text in said] == [
        "I am Sam.",
        "Hello Sam.",
        "What is my name?",
    ]
    assert "go on later with --thread cli-" in result.err


def test_chat_json_is_one_reply_a_line_and_the_code_tells_of_any_that_failed(stack: Stack) -> None:
    stack.quality.script.extend([status(500), answer("Fine.")])
    stack.fast.script.append(status(500))
    result = konstruct("chat", *TO_ADA, "--json", stdin="One?\nTwo?\n", cwd=stack.folder)
    first, second = map(json.loads, result.out.splitlines())
    assert (first["status"], first["reason"]) == ("apologised", "providers_failed")
    assert (second["status"], second["text"]) == ("answered", "Fine.")
    assert first["thread_id"] == second["thread_id"]
    assert result.code == 4


def test_status_tells_who_is_up_and_what_serves(stack: Stack) -> None:
    konstruct("send", *TO_ADA, "Hello", cwd=stack.folder)
    (stack.folder / "agents" / "broken.yaml").write_text("kind: Agent\n")
    try:
        result = konstruct("status", "--json", cwd=stack.folder)
        people = konstruct("status", cwd=stack.folder)
    finally:
        (stack.folder / "agents" / "broken.yaml").unlink()
    found = json.loads(result.out)
    assert (result.code, found["ok"]) == (0, True)
    assert found["redis"] == {"ok": True, "problem": None, "waiting": 0}
    pool = found["llm_pool"]
    assert {group["name"]: group["configured"] for group in pool["groups"]} == {"quality": True, "fast": True}
    assert pool["fallback_ratio"] == pytest.approx(pool["fallback_replies"] / pool["replies"])
    (worker,) = found["workers"]
    assert worker["pid"] == stack.info.pids["worker"]
    assert [(agent["tenant_id"], agent["agent"]) for agent in worker["agents"]] == [
        ("acme", "ada"),
        ("globex", "hugo"),
    ]
    (problem,) = worker["problems"]
    assert problem["where"] == "broken.yaml"
    assert (people.code, people.err) == (0, "")
    assert "replies by fallback" in people.out
    assert "broken.yaml: document 1: an Agent's apiVersion must be" in people.out
    assert "\x1b" not in people.out


def test_a_second_up_on_the_folder_is_refused(stack: Stack) -> None:
    result = konstruct("up", cwd=stack.folder)
    assert result.code == 1
    assert (
        f"a stack already runs on {stack.folder / '.konstruct'} (process {stack.up.process.pid})"
        in result.err
    )
    assert stack.up.process.poll() is None


def test_send_and_status_import_what_they_need(stack: Stack) -> None:
    sent = konstruct("send", *TO_ADA, "Hello", cwd=stack.folder, env=measured())
    looked = konstruct("status", cwd=stack.folder, env=measured())
    assert (sent.code, looked.code) == (0, 0)
    found = imported(sent.err)
    assert {"psycopg", "sqlalchemy", "orchestrator.sending"} <= found
    refuse(
        found, (*HEAVY, *QUEUE, "httpx", "prometheus_client", "orchestrator.evidence", "opentelemetry.sdk")
    )
    found = imported(looked.err)
    assert {"psycopg", "redis", "httpx"} <= found
    # redis imports OpenTelemetry's SDK by itself where it is installed.
    refuse(found, (*HEAVY, "sqlalchemy.orm", "orchestrator.sending", "orchestrator.evidence"))


def test_ctrl_c_while_starting_leaves_nothing(tmp_path: Path) -> None:
    with up(tmp_path, "--agents", str(EXAMPLES)) as running:
        running.says("PostgreSQL")
        assert running.end(signal.SIGINT) == 130
    assert free(tmp_path / ".konstruct" / "lock")


def test_a_taken_port_ends_up_with_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        result = konstruct("up", "--agents", str(EXAMPLES), "--postgres-port", port, cwd=tmp_path)
    assert result.code == 1
    assert f"PostgreSQL cannot have port {port}" in result.err
    assert free(tmp_path / ".konstruct" / "lock")


def test_killed_outright_it_leaves_no_process_and_its_data_is_there_again(tmp_path: Path) -> None:
    lock = tmp_path / ".konstruct" / "lock"
    message = (*TO_ADA, "--message-id", "m-1", "--thread", "t-1", "--sender", "sam", "Hello")
    with (
        provider_in_thread("ollama", "qwen-stub") as fast,
        up(tmp_path, "--agents", str(EXAMPLES), OLLAMA_BASE_URL=fast.root) as killed,
    ):
        killed.says("Ctrl-C ends it.")
        before = konstruct("send", *message, "--json", cwd=tmp_path)
        assert before.code == 0
        killed.end(signal.SIGKILL)
        assert wait_free(lock, 10), "a process outlived the stack"
        assert konstruct("status", cwd=tmp_path).code == 3
        asked = fast.count
        with up(tmp_path, "--agents", str(EXAMPLES), OLLAMA_BASE_URL=fast.root) as again:
            again.says("Ctrl-C ends it.")
            assert konstruct("send", *message, "--json", cwd=tmp_path).out == before.out
            assert fast.count == asked, "a finished message was asked again"
            info = StateDir(tmp_path / ".konstruct").read()
            assert info is not None
            os.kill(info.pids["llm-pool"], signal.SIGKILL)
            assert again.process.wait(30) == 1
        assert "konstruct: llm-pool was ended by SIGKILL. The end of" in again.err
        assert free(lock), "the rest of the stack was not ended"
