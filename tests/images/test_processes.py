"""The images' programs, run for real: read-only root, a user of their own, no capabilities."""

from __future__ import annotations

import json
import os
import signal
import urllib.error
import urllib.request
from pathlib import Path

import psycopg
import pytest

from konstruct_cli.stack.postgres import Postgres
from konstruct_cli.stack.process import LOOPBACK, ManagedProcess, claim_port
from shared.reply import MessageStatus
from tests.images.conftest import ROOT
from tests.images.image import Image
from tests.support.database import OWNER, SERVICE, SYSTEM
from tests.support.waiting import eventually
from tests.support.worker import Cell

AGENTS = "/etc/konstruct/agents"


def get(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def healthy(image: Image, log: Path, variable: str, listen: str) -> bool:
    """Run the image's own health check against `listen`."""
    kind, *command = image.config["Healthcheck"]["Test"]
    assert kind == "CMD"
    code, _ = image.run(log, entrypoint=command, environment={variable: listen}, within_s=30)
    return code == 0


def answers(url: str) -> bool:
    try:
        get(url)
    except OSError:
        return False
    return True


def end(process: ManagedProcess) -> int | None:
    os.kill(process.pid, signal.SIGTERM)
    eventually(lambda: process.exit_code() is not None, what="the end")
    return process.exit_code()


def test_the_pool_serves(llm_pool: Image, tmp_path: Path) -> None:
    listen = f"{LOOPBACK}:{claim_port('the pool', None)}"
    variable = "KONSTRUCT_LLM_POOL_LISTEN"
    assert not healthy(llm_pool, tmp_path / "down.log", variable, listen)
    with llm_pool.process(tmp_path / "pool.log", environment={variable: listen}) as pool:
        pool.wait_ready(lambda: answers(f"http://{listen}/health"), 90)
        status, body = get(f"http://{listen}/health")
        assert status == 200
        assert "groups" in json.loads(body)
        # No provider is configured: alive, and honest about having nothing to serve with.
        assert get(f"http://{listen}/readyz")[0] == 503
        assert b"konstruct_llm_" in get(f"http://{listen}/metrics")[1]
        assert healthy(llm_pool, tmp_path / "up.log", variable, listen)
        # uvicorn finishes what is under way, then lets the signal have its way.
        assert end(pool) in (0, -signal.SIGTERM, 128 + signal.SIGTERM)
    assert "Traceback" not in pool.log.read_text()
    assert "Finished server process" in pool.log.read_text()


@pytest.mark.parametrize("program", ["konstruct-worker", "konstruct-migrate"])
def test_without_settings_it_says_in_one_line_what_is_missing(
    orchestrator: Image, tmp_path: Path, program: str
) -> None:
    code, output = orchestrator.run(tmp_path / "log", entrypoint=[program])
    assert code == 2
    (line,) = output.splitlines()
    assert line.startswith(f"{program}: ")
    assert "KONSTRUCT_" in line
    assert "not set" in line


def test_a_wrong_setting_is_one_line_too(image: Image, tmp_path: Path) -> None:
    code, output = image.run(tmp_path / "log", environment={"KONSTRUCT_LLM_POOL_URI": "x"})
    assert code == 2
    assert "did you mean KONSTRUCT_LLM_POOL_URL" in output
    assert len(output.splitlines()) == 1


def test_the_operator_says_what_is_missing(operator: Image, tmp_path: Path) -> None:
    code, output = operator.run(tmp_path / "log")
    assert code == 2
    (line,) = output.splitlines()
    assert line.startswith("konstruct-operator: KONSTRUCT_POD_NAMESPACE")


def test_the_operator_waits_for_the_kubernetes_api(operator: Image, tmp_path: Path) -> None:
    listen = f"{LOOPBACK}:{claim_port('the operator', None)}"
    environment = {"KONSTRUCT_OPERATOR_LISTEN": listen, "KONSTRUCT_POD_NAMESPACE": "konstruct"}
    with operator.process(tmp_path / "log", environment=environment) as running:
        running.wait_ready(lambda: answers(f"http://{listen}/metrics"), 90)
        assert b"konstruct_operator_" in get(f"http://{listen}/metrics")[1]
        eventually(lambda: "no way to the Kubernetes API" in running.log.read_text())
        variable = "KONSTRUCT_OPERATOR_LISTEN"
        is_alive = get(f"http://{listen}/healthz")[0] == 200
        assert healthy(operator, tmp_path / "health.log", variable, listen) is is_alive
    assert "Traceback" not in running.log.read_text()


def test_the_command_works_in_the_workers_image(orchestrator: Image, tmp_path: Path) -> None:
    code, output = orchestrator.run(tmp_path / "help.log", "--help", entrypoint=["konstruct"])
    assert (code, "send" in output) == (0, True), output
    code, output = orchestrator.run(
        tmp_path / "render.log",
        f"{AGENTS}/ada.yaml",
        "--json",
        entrypoint=["konstruct", "render"],
        volumes={ROOT / "examples/agents/acme": AGENTS},
    )
    assert code == 0, output
    assert '"revision"' in output


def test_migrate_brings_an_empty_database_up_to_date(
    orchestrator: Image, postgres_server: Postgres, template_database: str, tmp_path: Path
) -> None:
    name = "konstruct_image"
    urls = {
        "KONSTRUCT_MIGRATION_DATABASE_URL": postgres_server.url(name, *OWNER),
        "KONSTRUCT_DATABASE_URL": postgres_server.url(name, *SERVICE),
        "KONSTRUCT_SYSTEM_DATABASE_URL": postgres_server.url(name, *SYSTEM),
    }
    with psycopg.connect(postgres_server.superuser_url(), autocommit=True) as connection:
        connection.execute(f"create database {name} owner {OWNER.user}")
        try:
            for run in ("first", "again"):
                code, output = orchestrator.run(
                    tmp_path / f"{run}.log", entrypoint=["konstruct-migrate"], environment=urls
                )
                assert code == 0, output
            with psycopg.connect(postgres_server.superuser_url(name)) as fresh:
                rows = fresh.execute(
                    "select relname from pg_class where relrowsecurity and relforcerowsecurity order by 1"
                ).fetchall()
        finally:
            connection.execute(f"drop database {name} with (force)")
    assert {"messages", "agents", "agent_revisions"} <= {row[0] for row in rows}


def test_a_worker_answers(orchestrator: Image, cell: Cell, tmp_path: Path) -> None:
    listen = f"{LOOPBACK}:{claim_port('the worker', None)}"
    environment = cell.environment(KONSTRUCT_AGENTS_DIR=AGENTS, KONSTRUCT_WORKER_LISTEN=listen)
    del environment["PATH"]
    worker = orchestrator.process(
        tmp_path / "worker.log", environment=environment, volumes={cell.agents: AGENTS}
    )
    message = cell.message("hello from outside the image")
    with worker:
        worker.wait_ready(lambda: answers(f"http://{listen}/healthz"), 60)
        cell.submit(message)
        reply = cell.reply(message)
        assert (reply.status, reply.text) == (
            MessageStatus.ANSWERED,
            "You said: hello from outside the image",
        )
        assert healthy(orchestrator, tmp_path / "up.log", "KONSTRUCT_WORKER_LISTEN", listen)
        assert b"konstruct_messages_total" in get(f"http://{listen}/metrics")[1]
        assert end(worker) == 0
    assert "Traceback" not in worker.log.read_text()
    assert "hello from outside" not in worker.log.read_text()
