"""A running system in which everything fails that can, and what it said of it: for the scan for canaries."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from konstruct_cli.stack.postgres import Postgres
from konstruct_cli.stack.process import claim_port
from konstruct_cli.stack.redis import Redis
from orchestrator.recording import record_message
from shared.db import get_session
from shared.models import KonstructMessage
from shared.rls import tenant_scope
from tests.support.canaries import LEAK, REDIS_PASSWORD, SAID, give_prompt, say_everything
from tests.support.otlp import Collector, running_collector
from tests.support.own_cell import open_own_cell
from tests.support.pool import running_stub_pool
from tests.support.providers import garbage, status
from tests.support.providers_pool import CANARIES
from tests.support.stack_command import environment, konstruct
from tests.support.traced import POOL_TOKEN, Way, way
from tests.support.waiting import eventually


@dataclass
class Scene:
    """The system after all of it, still running, and what it has said."""

    way: Way
    collector: Collector
    postgres: Postgres
    redis: Redis
    folder: Path
    worker_url: str
    said: dict[str, str] = field(default_factory=dict)
    """What commands printed and servers answered, by what it was."""
    ended: list[subprocess.CompletedProcess[str]] = field(default_factory=list)
    """Processes that could not start."""
    running: ExitStack = field(default_factory=ExitStack)

    def restart_servers(self) -> None:
        """Let both servers go away and come back, with what they held."""
        for server in (self.redis, self.postgres):
            server.stop()
        self.redis = self.running.enter_context(
            Redis(
                self.redis.data_dir, self.redis.port, password=REDIS_PASSWORD, log=self.folder / "redis-2.log"
            )
        )
        self.postgres = self.running.enter_context(
            Postgres(
                self.postgres.data_dir,
                self.postgres.port,
                password=self.postgres.password,
                durable=False,
                log=self.folder / "postgres-2.log",
            )
        )


@contextmanager
def open_scene(folder: Path) -> Iterator[Scene]:
    """Run providers, pool, worker, Redis and PostgreSQL through every fault at the level debug."""
    temporary = folder / "tmp"
    temporary.mkdir()
    worker = f"127.0.0.1:{claim_port('worker', None)}"
    with ExitStack() as running:
        postgres = running.enter_context(Postgres(folder / "postgres", durable=False))
        redis = running.enter_context(Redis(folder / "redis", password=REDIS_PASSWORD))
        pool = running.enter_context(running_stub_pool())
        cell = running.enter_context(open_own_cell(postgres, redis, pool, folder))
        collector = running.enter_context(running_collector())
        settings = {"KONSTRUCT_LOG_LEVEL": "debug", "TMPDIR": str(temporary), **collector.environment()}
        made = running.enter_context(way(cell, **settings))
        give_prompt(made)
        made.start_worker(KONSTRUCT_WORKER_LISTEN=worker)
        scene = Scene(made, collector, postgres, redis, folder, f"http://{worker}", running=running)
        go_wrong(scene)
        yield scene


def go_wrong(scene: Scene) -> None:
    """Let everything fail that can, and remember what was said of it."""
    made, cell = scene.way, scene.way.cell
    say_everything(made)
    _providers_fail(scene)
    _requests_are_refused(scene)
    _commands_fail(scene)
    _processes_cannot_start(scene)
    # A message's values are in the statement that fails.
    message = cell.message(SAID)
    cell.database.execute("alter table messages rename column reply to gone")
    cell.submit(message)
    eventually(lambda: "cannot be claimed" in cell.logs() or "cannot be recorded" in cell.logs())
    cell.database.execute("alter table messages rename column gone to reply")
    cell.reply(message)
    # One that workers died of runs in a process of its own.
    suspected = cell.message(SAID)
    with tenant_scope(suspected.tenant_id), get_session(cell.engine) as session:
        record_message(session, suspected)
    cell.database.execute(f"update messages set deaths = 2 where message_id = '{suspected.message_id}'")
    cell.reply(suspected, within_s=60)
    scene.restart_servers()
    after = cell.message(SAID)
    eventually(lambda: _took(scene, after), within_s=60, what="a message after the restart")
    cell.reply(after, within_s=60)
    scene.said["metrics of the worker"] = httpx.get(f"{scene.worker_url}/metrics").text
    scene.said["metrics of the llm-pool"] = httpx.get(f"{made.pool_url}/metrics").text


def _took(scene: Scene, message: KonstructMessage) -> bool:
    try:
        scene.way.cell.submit(message)
    except Exception:  # noqa: BLE001 - away in every way there is
        return False
    return True


def _providers_fail(scene: Scene) -> None:
    quoting = " ".join((LEAK, *CANARIES, SAID))
    providers = (scene.way.anthropic, scene.way.openai, scene.way.ollama)
    for provider in providers:
        provider.script.extend([status(500, quoting), garbage()])
    for _ in range(2):
        scene.said.setdefault("a reply when every provider fails", "")
        reply = scene.way.send(SAID)
        assert reply["status"] in ("apologised", "answered")
        scene.said["a reply when every provider fails"] += reply["text"] if reply["reason"] else ""


def _requests_are_refused(scene: Scene) -> None:
    url, right = f"{scene.way.pool_url}/complete", {"Authorization": f"Bearer {POOL_TOKEN}"}
    body = {"model": "quality", "messages": [{"role": "user", "content": SAID}], "tenant_id": "acme"}
    answers = [
        httpx.post(url, json=body, headers={"Authorization": f"Bearer {LEAK}"}),
        httpx.post(url, json={**body, "novelty": LEAK, "messages": SAID}, headers=right),
        httpx.post(url, json={**body, "model": "nothing"}, headers=right),
        httpx.post(url, content=f"{{{SAID}", headers=right),
        httpx.get(f"{url}/{SAID}", headers=right),
    ]
    assert all(answer.status_code >= 400 for answer in answers)
    scene.said["error bodies of the llm-pool"] = "\n".join(
        f"{answer.headers} {answer.text}" for answer in answers if SAID not in str(answer.request.url)
    )


def _commands_fail(scene: Scene) -> None:
    cell = scene.way.cell
    right = {
        "KONSTRUCT_DATABASE_URL": cell.database.service_url,
        "KONSTRUCT_REDIS_URL": cell.redis_url,
        "KONSTRUCT_LLM_POOL_URL": scene.way.pool_url,
        "KONSTRUCT_LLM_POOL_TOKEN": POOL_TOKEN,
    }
    wrong = {
        "KONSTRUCT_DATABASE_URL": scene.postgres.url("konstruct", "konstruct_app", LEAK),
        "KONSTRUCT_REDIS_URL": f"redis://:{LEAK}@{scene.redis.address}/0",
        "KONSTRUCT_LLM_POOL_TOKEN": "sk canary",
        "KONSTRUCT_WORKER_CONCURRENCY": LEAK,
        "KONSTRUCT_LLM_POOL_TOKN": LEAK,
    }
    send = ("send", "--tenant", "acme", "--agent", "ada", "--timeout", "3", SAID)
    told = [
        konstruct(*send, cwd=cell.folder, env=environment(**{**right, name: value}))
        for name, value in wrong.items()
        if name != "KONSTRUCT_REDIS_URL"
    ]
    told += [
        konstruct(*command, cwd=cell.folder, env=environment(**{**right, **changed}))
        for command, changed in (
            (("status",), {"KONSTRUCT_REDIS_URL": wrong["KONSTRUCT_REDIS_URL"]}),
            (("explain", "--tenant", "acme", "nothing"), {}),
            (("parked", "--tenant", "acme", "retry", "nothing"), {}),
            (("send", "--tenant", "acme", "--agent", "ada", "--thread", "no\nthread", SAID), {}),
        )
    ]
    assert [one.code for one in told].count(0) <= 1, told
    scene.said["what commands say of an error"] = "\n".join(one.out + one.err for one in told)
    shown = konstruct("status", "--json", cwd=cell.folder, env=environment(**right))
    scene.said["what commands show"] = shown.out + shown.err


def _processes_cannot_start(scene: Scene) -> None:
    cell = scene.way.cell
    config = scene.folder / "broken.yaml"
    config.write_text(f"model_list: [{{model_name: fast, litellm_params: {{model: x, api_key: {LEAK}}}}}, 7]")
    worker, pool = ["-m", "orchestrator"], ["-c", "from llm_pool.main import run; run()"]
    wrong: list[tuple[list[str], dict[str, str]]] = [
        (worker, {"KONSTRUCT_DATABASE_URL": f"postgresql://app:{LEAK}@{LEAK}@127.0.0.1/x"}),
        (worker, {"KONSTRUCT_LEASE_S": LEAK}),
        (pool, {"KONSTRUCT_LLM_POOL_CONFIG": str(config)}),
        (pool, {"KONSTRUCT_LLM_POOL_TOKEN": "sk canary"}),
        (
            ["-c", "from shared.migrate import main; main()"],
            {"KONSTRUCT_MIGRATION_DATABASE_URL": f"postgresql://own:{LEAK}@127.0.0.1:1/x"},
        ),
    ]
    for arguments, changed in wrong:
        done = subprocess.run(
            [sys.executable, *arguments],
            env=cell.environment(**changed),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode, (arguments, changed, done.stdout, done.stderr)
        scene.ended.append(done)
    _a_worker_waits(scene)


def _a_worker_waits(scene: Scene) -> None:
    """Refuse a worker's password: that may be mended while it waits."""
    refused = scene.postgres.url("konstruct", "konstruct_app", LEAK)
    waiting = scene.way.cell.launch_worker(KONSTRUCT_DATABASE_URL=refused)
    eventually(lambda: "password authentication failed" in waiting.log.read_text())
    waiting.stop()
