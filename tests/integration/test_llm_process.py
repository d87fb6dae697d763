"""The pool as a process: the command, its errors, its end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.support.pool_process import command, free_port, running, wait_ready
from tests.support.providers import StubProvider, answer
from tests.support.providers_pool import clean_environment, until


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    clean_environment(monkeypatch)


@pytest.mark.parametrize(
    "arguments",
    [
        command(),
        [sys.executable, "-m", "uvicorn", "--factory", "llm_pool.main:app_from_env"],
        [sys.executable, "-m", "uvicorn", "llm_pool.main:app"],
    ],
    ids=["command", "uvicorn --factory", "uvicorn"],
)
async def test_sigterm_finishes_what_is_under_way(arguments: list[str]) -> None:
    port = free_port()
    if "uvicorn" in arguments:
        arguments = [*arguments, "--port", str(port)]
    async with (
        StubProvider("ollama", "qwen3:8b") as ollama,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client,
    ):
        ollama.default = answer("after all", delay_s=1.0)
        with running(arguments, port, OLLAMA_BASE_URL=ollama.root) as process:
            await wait_ready(client, process)
            body = {"model": "fast", "messages": [{"role": "user", "content": "Hi"}], "tenant_id": "acme"}
            task = asyncio.create_task(client.post("/complete", json=body))
            await until(lambda: ollama.count == 1)
            process.send_signal(signal.SIGTERM)
            response = await task
            assert (response.status_code, response.json()["content"]) == (200, "after all")
            await until(lambda: process.poll() is not None)
            assert process.returncode in (0, -signal.SIGTERM)  # uvicorn's own command ends by the signal


async def test_uvicorns_own_processes_serve_it_too() -> None:
    port = free_port()
    arguments = [sys.executable, "-m", "uvicorn", "llm_pool.main:app", "--port", str(port), "--workers", "2"]
    async with (
        StubProvider("ollama", "qwen3:8b") as ollama,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client,
    ):
        with running(arguments, port, OLLAMA_BASE_URL=ollama.root) as process:
            await wait_ready(client, process)
            body = {"model": "fast", "messages": [{"role": "user", "content": "Hi"}], "tenant_id": "acme"}
            assert (await client.post("/complete", json=body)).status_code == 200


async def test_token_and_provider_key_come_from_files(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "token").write_text("the-pools-own-token\n")
    (tmp_path / "key").write_text("the-providers-key\n")
    async with (
        StubProvider("anthropic", "claude-sonnet-4-20250514") as anthropic,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client,
    ):
        with running(
            command(),
            port,
            KONSTRUCT_LLM_POOL_TOKEN_FILE=str(tmp_path / "token"),
            KONSTRUCT_LLM_POOL_SECOND_TOKEN_FILE=f"-{tmp_path / 'second'}",
            KONSTRUCT_ANTHROPIC_BASE_URL=anthropic.root,
            ANTHROPIC_API_KEY_FILE=str(tmp_path / "key"),
            OPENAI_API_KEY_FILE=f"-{tmp_path / 'openai'}",
        ) as process:
            await wait_ready(client, process)
            body = {"model": "quality", "messages": [{"role": "user", "content": "Hi"}], "tenant_id": "acme"}
            refused = await client.post("/complete", json=body)
            taken = await client.post(
                "/complete", json=body, headers={"Authorization": "Bearer the-pools-own-token"}
            )
            assert (refused.status_code, taken.status_code) == (401, 200)
            assert [headers["x-api-key"] for headers in anthropic.headers] == ["the-providers-key"]


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"KONSTRUCT_LLM_POOL_TOKN": "x"}, "did you mean KONSTRUCT_LLM_POOL_TOKEN"),
        (
            {"KONSTRUCT_LLM_POOL_TOKEN_FILE": "/nowhere"},
            "KONSTRUCT_LLM_POOL_TOKEN_FILE: names a file that does",
        ),
        ({"ANTHROPIC_API_KEY_FILE": "/nowhere"}, "ANTHROPIC_API_KEY_FILE: names a file that does not exist"),
        ({"KONSTRUCT_LLM_POOL_CONFIG": "/nowhere/litellm.yaml"}, "/nowhere/litellm.yaml: cannot be read"),
    ],
)
def test_unusable_settings_are_one_clear_line(environ: dict[str, str], said: str) -> None:
    done = subprocess.run(
        command(), env={**os.environ, **environ}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("konstruct-llm-pool: ")


def test_model_that_litellm_does_not_know_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "litellm.yaml"
    path.write_text(
        "model_list: [{model_name: a, litellm_params: {model: no-such-model, api_key: sk-canary}}]"
    )
    done = subprocess.run(
        command(),
        env={**os.environ, "KONSTRUCT_LLM_POOL_CONFIG": str(path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "no-such-model" in done.stderr
    assert "sk-canary" not in done.stdout + done.stderr
    assert done.stderr.count("\n") == 1
