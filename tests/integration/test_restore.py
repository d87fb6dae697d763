"""The backup that the documentation describes, taken and restored with its own commands."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from konstruct_cli.stack.postgres import Postgres, binaries
from konstruct_cli.stack.redis import Redis
from orchestrator.sending import submit
from shared.db import make_engine
from shared.migrate import ensure_logins, migrate
from shared.reply import MessageStatus
from tests.support.database import OWNER, SERVICE, SYSTEM, Database, make_template
from tests.support.pool import StubPool
from tests.support.worker import Cell, write_agent

PAGE = Path(__file__).parents[2] / "docs" / "data.md"


def commands(heading: str) -> str:
    """Read the shell commands below a heading of the page."""
    section = PAGE.read_text().split(f"\n### {heading}\n")[1].split("\n#")[0]
    return "\n".join(re.findall(r"```sh\n(.*?)```", section, re.DOTALL))


def run(script: str, folder: Path, **variables: str) -> None:
    """Run the page's commands as they are written."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env={"PATH": f"{binaries()}:{os.environ['PATH']}", "LC_ALL": "C", **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[Postgres, Postgres]]:
    with (
        Postgres(tmp_path / "lost", durable=False) as lost,
        Postgres(tmp_path / "new", durable=False) as new,
    ):
        yield lost, new


def of(server: Postgres, name: str) -> Database:
    return Database(
        name=name,
        superuser_url=server.superuser_url(name),
        owner_url=server.url(name, *OWNER),
        service_url=server.url(name, *SERVICE),
        system_url=server.url(name, *SYSTEM),
    )


def test_what_was_finished_is_there_and_what_was_not_is_answered(
    servers: tuple[Postgres, Postgres], redis_server: Redis, stub_pool: StubPool, tmp_path: Path
) -> None:
    lost, new = servers
    agents = tmp_path / "agents"
    agents.mkdir()
    for tenant in ("acme", "globex"):
        write_agent(agents, tenant, "ada")
    before = of(lost, make_template(lost))
    with Redis(tmp_path / "redis", appendonly=False) as redis:
        cell = Cell(before, redis.url(), stub_pool, agents, tmp_path, results=False)
        with cell.on_end:
            answered = [cell.message(f"said by {tenant}", tenant_id=tenant) for tenant in ("acme", "globex")]
            cell.start_worker()
            cell.submit(*answered)
            replies = [cell.reply(message) for message in answered]
            assert {reply.status for reply in replies} == {MessageStatus.ANSWERED}
            cell.workers.pop().stop()
            waiting = cell.message("nobody has answered this")
            cell.submit(waiting)
            run(commands("Taking a backup"), tmp_path, DATABASE=before.name, **login(lost))
    lost.stop()

    run(commands("Restoring it"), tmp_path, DATABASE="konstruct", OWNER=OWNER.user, **login(new))
    after = of(new, "konstruct")
    with psycopg.connect(after.superuser_url) as connection:
        connection.execute(f"alter role {OWNER.user} password '{OWNER.password}'")
    migrate(after.owner_url)
    ensure_logins(after.owner_url, service=SERVICE, system=SYSTEM)
    cell = Cell(after, redis_server.url(), stub_pool, agents, tmp_path)
    with cell.on_end:
        cell.broker.flushdb()
        assert [cell.reply(message) for message in answered] == replies
        cell.start_worker()
        assert cell.reply(waiting, within_s=60).status is MessageStatus.ANSWERED
        later = cell.message("after the disaster")
        engine = make_engine(after.settings())
        try:
            submit(later, on=engine)
        finally:
            engine.dispose()
        assert cell.reply(later).status is MessageStatus.ANSWERED
        # The policies, the roles and the functions came along.
        rows = "select count(*) from pg_policies where tablename = 'messages'"
        assert after.rows(rows) == [(2,)]
        with psycopg.connect(after.service_url) as connection:
            assert connection.execute("select count(*) from messages").fetchone() == (0,)
            connection.execute("select set_config('app.tenant_id', 'globex', true)")
            assert connection.execute("select text from messages").fetchall() == [("said by globex",)]


def login(server: Postgres) -> dict[str, str]:
    """Name the server and its superuser in the variables that PostgreSQL's programs read."""
    host, port = server.address.split(":")
    return {"PGHOST": host, "PGPORT": port, "PGUSER": "postgres", "PGPASSWORD": server.password}
