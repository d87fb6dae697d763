"""The demo, whole and on the small model: it must show what it promises, and be able to fail."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.providers import StubProvider, status
from tests.support.stack_command import COMMAND, environment, konstruct
from tests.support.stack_provider import provider_in_thread
from tests.support.waiting import eventually

EXAMPLES = Path(__file__).parents[2] / "examples" / "agents"

WATCH = "konstruct status --watch"

STEPS = [
    "Start PostgreSQL, Redis, a model, the llm-pool and a worker",
    "Apply two agents of two tenants",
    "acme asks ada",
    "globex asks hugo",
    "Which models answered, and why",
    "Edit ada's persona while it runs",
    "A tenant cannot reach another's agent",
    "A tenant cannot read another's rows",
    "Fallback rate, from the llm-pool's metrics",
    "Stop",
]


@pytest.fixture
def ollama() -> Iterator[StubProvider]:
    with provider_in_thread("ollama", "qwen-stub") as provider:
        yield provider


def results(out: str) -> dict[str, str]:
    return {step["name"]: step["result"] for step in json.loads(out)["steps"]}


def test_the_demo_shows_the_main_job_without_keys(tmp_path: Path) -> None:
    before = {file: file.read_bytes() for file in EXAMPLES.rglob("*.yaml")}
    result = konstruct("demo", "--json", cwd=tmp_path, env=environment(TMPDIR=str(tmp_path)))
    assert result.code == 0, result.err
    shown = json.loads(result.out)
    assert shown["ok"] is True
    assert [(step["name"], step["ok"]) for step in shown["steps"]] == [(name, True) for name in STEPS]
    told = results(result.out)
    assert told["acme asks ada"] == "answered by smollm2-135m-instruct"
    assert told["Which models answered, and why"] == "quality asked, fast answered: not_configured"
    assert told["Fallback rate, from the llm-pool's metrics"] == "3 of 3 replies by fallback (100%)"
    assert told["A tenant cannot reach another's agent"] == "globex asks acme's ada: agent_unknown"
    assert "globex sees 0 rows" in told["A tenant cannot read another's rows"]
    assert "set ANTHROPIC_API_KEY or OPENAI_API_KEY" in result.err
    assert (shown["llm_pool"]["degraded"], shown["llm_pool"]["fallback_ratio"]) == (3, 1.0)
    assert result.err.splitlines()[-4:] == [
        "Fallback ratio, read from the llm-pool's /metrics: 3 of 3 replies by fallback (100%)",
        "Why another group was asked:  quality: not_configured 3",
        "Again, and live until Ctrl-C:  konstruct demo --watch",
        f"On a stack of your own:        konstruct up --agents {EXAMPLES}, and in another terminal {WATCH}",
    ]
    assert list(tmp_path.iterdir()) == [], "the demo left files"
    assert {file: file.read_bytes() for file in EXAMPLES.rglob("*.yaml")} == before


def test_with_a_key_the_provider_answers_and_the_demo_says_so(tmp_path: Path, ollama: StubProvider) -> None:
    with provider_in_thread("anthropic", "claude-stub") as anthropic:
        # One agent's provider is rate limited once: the account must tell both apart.
        anthropic.script.append(status(429, retry_after="0"))
        result = konstruct(
            "demo",
            "--json",
            cwd=tmp_path,
            env=environment(
                ANTHROPIC_API_KEY="sk-stub",
                KONSTRUCT_ANTHROPIC_BASE_URL=anthropic.root,
                OLLAMA_BASE_URL=ollama.root,
            ),
        )
    assert result.code == 0, result.err
    told = results(result.out)
    assert told["acme asks ada"] == "answered by qwen-stub"
    assert told["globex asks hugo"] == "answered by claude-stub"
    assert told["Which models answered, and why"] == (
        "quality asked, fast answered: rate_limited; quality asked, quality answered"
    )
    assert told["Fallback rate, from the llm-pool's metrics"] == "1 of 3 replies by fallback (33%)"
    assert "set in the environment: ANTHROPIC_API_KEY, OLLAMA_BASE_URL" in result.err


def test_a_demo_whose_models_fail_says_what_failed(tmp_path: Path, ollama: StubProvider) -> None:
    ollama.default = status(500)
    result = konstruct("demo", cwd=tmp_path, env=environment(OLLAMA_BASE_URL=ollama.root))
    assert result.code == 1
    assert "FAILED: no model answered: providers_failed" in result.out
    assert "konstruct: the demo failed at: acme asks ada\n" in result.err
    assert "konstruct: the demo failed at: Edit ada's persona while it runs\n" in result.err
    assert "failed at: A tenant cannot reach another's agent" not in result.err
    assert "failed at: Stop" not in result.err


def test_a_demo_that_is_watched_stays_until_it_is_told_to_end(tmp_path: Path, ollama: StubProvider) -> None:
    out = tmp_path / "out"
    with out.open("wb") as written:
        demo = subprocess.Popen(
            [*COMMAND, "demo", "--watch"],
            stdout=written,
            stderr=written,
            env=environment(OLLAMA_BASE_URL=ollama.root),
            cwd=tmp_path,
        )
    try:
        # The line after a send is of a stack that counted it, and knows nothing of the demo's own messages.
        eventually(
            lambda: "In another terminal:" in out.read_text(), within_s=120, what="the end of the steps"
        )
        command = re.search(r"In another terminal:  konstruct (.*)", out.read_text())
        assert command is not None
        sent = konstruct(*shlex.split(command[1]), cwd=tmp_path)
        assert sent.code == 0, sent.err
        eventually(
            lambda: "100.0% fallback (not_configured 1)" in out.read_text(), within_s=60, what="the message"
        )
        demo.send_signal(signal.SIGINT)
        assert demo.wait(60) == 0
    finally:
        demo.kill()
        demo.wait(10)
    assert (
        "Fallback ratio, read from the llm-pool's /metrics: 4 of 4 replies by fallback (100%)"
        in out.read_text()
    )


def test_a_demo_without_two_tenants_is_refused_before_anything_starts(tmp_path: Path) -> None:
    result = konstruct("demo", "--agents", str(EXAMPLES / "acme"), cwd=tmp_path)
    assert (result.code, result.out) == (2, "")
    assert "must hold agents of two tenants" in result.err


def test_a_demo_that_is_interrupted_removes_everything(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as out:
        demo = subprocess.Popen(
            [*COMMAND, "demo"], stdout=out, stderr=out, env=environment(TMPDIR=str(tmp_path)), cwd=tmp_path
        )
    try:
        eventually(lambda: "PostgreSQL  " in (tmp_path / "out").read_text(), within_s=60, what="a start")
        os.kill(demo.pid, signal.SIGTERM)
        assert demo.wait(30) == 130
    finally:
        demo.kill()
        demo.wait(10)
    assert "everything it started is stopped and removed" in (tmp_path / "out").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
