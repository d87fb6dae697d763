"""Secrets are changed while messages come steadily, by the steps of docs/security.md: none is refused."""

from __future__ import annotations

from contextlib import ExitStack
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
import redis
from sqlalchemy.engine import make_url

from konstruct_cli.stack.services import LlmPool
from shared.migrate import Login, ensure_logins
from shared.reply import MessageStatus
from tests.support.stack_provider import provider_in_thread
from tests.support.steady import more, steady_messages
from tests.support.tcp_proxy import TcpProxy
from tests.support.worker import Cell

OLD, NEW = "the-token-of-last-year", "the-token-of-this-year"


@pytest.mark.timeout(400)
def test_the_pools_token_is_changed_under_steady_messages(cell: Cell) -> None:
    with provider_in_thread("ollama", "qwen3:8b") as ollama, ExitStack() as running:

        def start_pool(**tokens: str) -> tuple[LlmPool, int]:
            environment = cell.environment(OLLAMA_BASE_URL=ollama.root, **tokens)
            log = cell.folder / f"pool-{len(pools)}.log"
            pool = running.enter_context(LlmPool(environment, log=log))
            assert pool.port is not None
            pools.append(pool)
            return pool, pool.port

        pools: list[LlmPool] = []
        first, port = start_pool(KONSTRUCT_LLM_POOL_TOKEN=OLD)
        service = running.enter_context(TcpProxy(port))
        url = f"http://127.0.0.1:{service.port}"
        worker = cell.start_worker(KONSTRUCT_LLM_POOL_URL=url, KONSTRUCT_LLM_POOL_TOKEN=OLD)
        with steady_messages(cell) as sent:
            more(cell, sent)
            # 1. The pool takes the next one too.
            second, port = start_pool(KONSTRUCT_LLM_POOL_TOKEN=OLD, KONSTRUCT_LLM_POOL_SECOND_TOKEN=NEW)
            service.redirect(port)
            first.stop()
            more(cell, sent)
            # 2. The two change places, and the workers send it; old and new ones side by side.
            cell.start_worker(KONSTRUCT_LLM_POOL_URL=url, KONSTRUCT_LLM_POOL_TOKEN=NEW)
            more(cell, sent)
            worker.stop()
            more(cell, sent)
            # 3. The last one is gone.
            _, port = start_pool(KONSTRUCT_LLM_POOL_TOKEN=NEW)
            service.redirect(port)
            second.stop()
            more(cell, sent)
        assert {cell.reply(message).status for message in sent} == {MessageStatus.ANSWERED}
        refused = httpx.post(f"{url}/complete", headers={"authorization": f"Bearer {OLD}"}, trust_env=False)
        assert refused.status_code == 401


def test_the_users_of_postgresql_are_replaced_under_steady_messages(cell: Cell) -> None:
    def url_of(login: Login) -> str:
        parsed = make_url(cell.database.service_url).set(username=login.user, password=login.password)
        return parsed.render_as_string(hide_password=False)

    last = [Login(f"{cell.database.name}_{name}", "last-password") for name in ("app", "sys")]
    new = [Login(f"{cell.database.name}_{name}_2", "new-password") for name in ("app", "sys")]
    variables = ("KONSTRUCT_DATABASE_URL", "KONSTRUCT_SYSTEM_DATABASE_URL")
    ensure_logins(cell.database.owner_url, service=last[0], system=last[1])
    worker = cell.start_worker(**dict(zip(variables, map(url_of, last), strict=True)))
    with steady_messages(cell) as sent:
        more(cell, sent)
        ensure_logins(cell.database.owner_url, service=new[0], system=new[1])
        more(cell, sent)
        cell.start_worker(**dict(zip(variables, map(url_of, new), strict=True)))
        worker.stop()
        with psycopg.connect(cell.database.owner_url, autocommit=True) as owner:
            for login in last:
                owner.execute(f"drop role {login.user}")
        more(cell, sent)
    assert {cell.reply(message).status for message in sent} == {MessageStatus.ANSWERED}
    assert cell.database.rows("select sum(deaths), max(attempt) from messages")[0][0] == 0
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(url_of(last[0]))
    for worker in cell.workers:
        worker.stop()
    with psycopg.connect(cell.database.owner_url, autocommit=True) as owner:
        for login in new:
            owner.execute(f"drop role {login.user}")


def test_the_password_of_redis_is_changed_under_steady_messages(cell: Cell) -> None:
    def set_user(*rules: str) -> None:
        cell.broker.execute_command("ACL", "SETUSER", "rotated", *rules)  # type: ignore[no-untyped-call]

    def url_of(password: str) -> str:
        parsed = urlsplit(cell.redis_url)
        return f"redis://rotated:{password}@{parsed.hostname}:{parsed.port}{parsed.path}"

    cell.on_end.callback(cell.broker.acl_deluser, "rotated")
    set_user("on", "~*", "&*", "+@all", ">last")
    worker = cell.start_worker(KONSTRUCT_REDIS_URL=url_of("last"))
    with steady_messages(cell) as sent:
        more(cell, sent)
        set_user(">new")
        cell.start_worker(KONSTRUCT_REDIS_URL=url_of("new"))
        worker.stop()
        set_user("<last")
        more(cell, sent)
    assert {cell.reply(message).status for message in sent} == {MessageStatus.ANSWERED}
    with pytest.raises(redis.AuthenticationError), redis.Redis.from_url(url_of("last")) as refused:
        refused.keys()
