"""``konstruct status --watch`` on a whole stack: what it shows is what was sent, and it ends when told to."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from konstruct_cli.stack.state import StateDir
from tests.support.pods_exec import PodsExec, pods_exec
from tests.support.providers import StubProvider, answer, status
from tests.support.stack_command import COMMAND, environment, konstruct, up
from tests.support.stack_provider import provider_in_thread
from tests.support.waiting import eventually

EXAMPLES = Path(__file__).parents[2] / "examples" / "agents"

WITHIN_S = 60.0
"""Longest wait for a line, on a busy machine."""


@dataclass
class Stack:
    """A stack, its two providers, and the same stack as a release in a cluster."""

    folder: Path
    quality: StubProvider
    fast: StubProvider
    cluster: PodsExec

    def ask(self, *, degraded: int = 0, failed: int = 0, answered: int = 0) -> None:
        """Send messages, and have their providers answer so that they end in these ways."""
        fails = status(400)  # no fault of the provider: it cools nothing
        self.quality.script.extend([answer()] * answered + [fails] * (degraded + failed))
        self.fast.script.extend([answer()] * degraded + [fails] * failed)
        lines = "Hello\n" * (answered + degraded + failed)
        chat = konstruct("chat", "--tenant", "acme", "--agent", "ada", cwd=self.folder, stdin=lines)
        assert chat.code == (4 if failed else 0), chat.err


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder, inside = tmp_path_factory.mktemp("up"), tmp_path_factory.mktemp("inside")
    shutil.copytree(EXAMPLES, folder / "agents")
    with (
        provider_in_thread("anthropic", "claude-stub") as quality,
        provider_in_thread("ollama", "qwen-stub") as fast,
        up(
            folder,
            ANTHROPIC_API_KEY="sk-stub",
            KONSTRUCT_ANTHROPIC_BASE_URL=quality.root,
            OLLAMA_BASE_URL=fast.root,
        ) as running,
    ):
        running.says("Ctrl-C ends it.")
        info = StateDir(folder / ".konstruct").read()
        assert info is not None
        with pods_exec(inside, environment(**info.environment())) as cluster:
            yield Stack(folder, quality, fast, cluster)


@dataclass
class Watching:
    """A running ``konstruct status --watch``."""

    process: subprocess.Popen[bytes]
    output: Path

    def lines(self) -> list[str]:
        return self.output.read_text().splitlines()

    def after(self, count: int) -> str:
        """Wait for a line that began to be measured when there were `count`, and return it."""
        eventually(lambda: len(self.lines()) > count + 1, within_s=WITHIN_S, what=f"line {count + 2}")
        return self.lines()[count + 1]

    def end(self, how: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(how)
        return self.process.wait(30)


@contextmanager
def watching(stack: Stack, *arguments: str, every_s: float = 1.0) -> Iterator[Watching]:
    output = stack.folder / "watch.out"
    command = [*COMMAND, "status", "--watch", f"--every={every_s}", *arguments]
    with output.open("wb") as out:
        process = subprocess.Popen(command, cwd=stack.folder, stdout=out, env=environment())
    try:
        yield Watching(process, output)
    finally:
        process.kill()
        process.wait(10)


def sums(lines: list[str]) -> dict[str, int]:
    """Add up what a watch in JSON said about the group `quality` in its intervals."""
    told = [json.loads(line)["llm_pool"]["replicas"]["interval"] for line in lines]
    groups = [group for each in told if each for group in each["traffic"]["groups"]]
    asked = [group for group in groups if group["requested_group"] == "quality"]
    return {name: sum(group[name] for group in asked) for name in ("requests", "degraded", "failed")}


def test_the_share_that_is_shown_is_the_one_that_was_sent(stack: Stack) -> None:
    with watching(stack, "--json") as watch:
        eventually(watch.lines, within_s=WITHIN_S, what="the first line")
        stack.ask(answered=5, degraded=3, failed=2)
        watch.after(len(watch.lines()))
        assert watch.end() == 0
        lines = [json.loads(line) for line in watch.lines()]
    assert lines[0]["llm_pool"]["replicas"]["interval"] is None
    for each in lines[1:]:
        interval = each["llm_pool"]["replicas"]["interval"]
        for group in interval["traffic"]["groups"]:
            expected = group["requests"] / interval["seconds"]
            assert group["requests_per_s"] == pytest.approx(expected, rel=0.1)
    assert sums(watch.lines()) == {"requests": 10, "degraded": 3, "failed": 2}
    reasons = [
        group["reasons"]
        for each in lines[1:]
        for group in each["llm_pool"]["replicas"]["interval"]["traffic"]["groups"]
        if group["reasons"]
    ]
    assert sum(each["bad_request"] for each in reasons) == 5


def test_lines_are_appended_where_there_is_no_terminal(stack: Stack) -> None:
    with watching(stack) as watch:
        eventually(watch.lines, within_s=WITHIN_S, what="the first line")
        stack.ask(degraded=2)
        told = r"quality \d+\.\d/s, 100\.0% fallback \(bad_request \d\), 0\.0% failed \| workers 1/1 \|"
        eventually(lambda: re.search(told, watch.output.read_text()), within_s=WITHIN_S, what="the messages")
        assert watch.end() == 0
    first = watch.lines()[0]
    assert re.search(
        r"since the llm-pool started: .*\| workers 1/1 \| in flight 0 \| backlog 0 \| agents 2$", first
    )
    assert "\x1b" not in watch.output.read_text()


def test_a_terminal_shows_one_screen_that_changes(stack: Stack) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "status", "--watch", "--every=1"],
        cwd=stack.folder,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(TERM="xterm", COLUMNS="120"),
    )
    os.close(theirs)
    shown = b""
    try:
        while shown.count(b"fallback since start") < 3:
            shown += os.read(ours, 65_536)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait(10)
        os.close(ours)
    assert b"quality" in shown
    assert b"workers 1/1" in shown
    assert b"\x1b[" in shown, "it goes back up for each look"


def test_it_ends_when_nobody_reads_on(stack: Stack) -> None:
    command = " ".join([*COMMAND, "status", "--watch", "--every=0.5"])
    done = subprocess.run(
        ["sh", "-c", f"{{ {command}; echo $? >&2; }} | head -n 1"],
        cwd=stack.folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert done.stdout.count("\n") == 1
    assert done.stderr == "0\n"


def test_a_pod_looks_for_a_laptop_until_it_goes(stack: Stack) -> None:
    cluster = stack.cluster
    with watching(stack, "--json", *cluster.options) as watch:
        eventually(lambda: len(watch.lines()) > 1, within_s=WITHIN_S, what="two lines")
        stack.ask(answered=1, degraded=1)
        watch.after(len(watch.lines()))
        assert watch.end() == 0
    assert sums(watch.lines()) == {"requests": 2, "degraded": 1, "failed": 0}
    assert json.loads(watch.lines()[0])["source"] == "namespace konstruct, as one of its workers sees it"
    eventually(lambda: cluster.streaming == 0, within_s=10, what="the end of the command in the pod")


def test_when_the_pod_ends_another_goes_on(stack: Stack) -> None:
    cluster = stack.cluster
    cluster.runs.clear()
    cluster.cut = 1
    with watching(stack, *cluster.options) as watch:
        eventually(lambda: len(watch.lines()) > 2, within_s=WITHIN_S, what="three lines")
        assert watch.end(signal.SIGTERM) == 0
    assert len(cluster.runs) == 2
    eventually(lambda: cluster.streaming == 0, within_s=10, what="the end of the command in the pod")


def test_what_the_pod_cannot_do_ends_it_here(stack: Stack, tmp_path: Path) -> None:
    with pods_exec(tmp_path, environment()) as empty, watching(stack, *empty.options) as watch:
        assert watch.process.wait(WITHIN_S) == 3
