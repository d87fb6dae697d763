"""The servers of the local stack: real ones, closed to others, gone when stopped."""

from __future__ import annotations

import socket
from pathlib import Path

import httpx
import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from konstruct_cli.stack.model import Model
from konstruct_cli.stack.model_server import MODEL, REPLY_TOKENS
from konstruct_cli.stack.postgres import Postgres
from konstruct_cli.stack.process import LOOPBACK, PortTakenError, StackError
from konstruct_cli.stack.redis import Redis
from tests.support.stack_lifeline import Lifeline, free, wait_free


def test_postgres_keeps_its_data_and_leaves_no_process(tmp_path: Path) -> None:
    lifeline = Lifeline(tmp_path / "lock")
    keep = (lifeline.descriptor,)
    with Postgres(tmp_path / "data", durable=False, keep_open=keep) as server:
        url = server.create_database("shop")
        assert server.create_database("shop") == url
        with psycopg.connect(url) as connection:
            assert connection.info.server_version >= 180_000
            connection.execute("create table t as select 7 as n")
    with (
        Postgres(tmp_path / "data", password=server.password, durable=False, keep_open=keep) as again,
        psycopg.connect(again.superuser_url("shop")) as connection,
    ):
        assert connection.execute("select n from t").fetchone() == (7,)
        lifeline.let_go()
        assert not free(lifeline.path)
    # PostgreSQL's own children (they lead groups of their own) have ended too.
    assert wait_free(lifeline.path, 5)


def test_postgres_asks_for_the_password(postgres_server: Postgres) -> None:
    wrong = postgres_server.url("postgres", "postgres", "guess")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)


def test_postgres_listens_on_the_loopback_interface_only(postgres_server: Postgres) -> None:
    with psycopg.connect(postgres_server.superuser_url()) as connection:
        row = connection.execute(
            "select current_setting('listen_addresses'), current_setting('unix_socket_directories')"
        ).fetchone()
    assert row == (LOOPBACK, "")


def test_postgres_on_data_with_another_password_says_so(tmp_path: Path) -> None:
    Postgres(tmp_path / "data", durable=False).start().stop()
    with pytest.raises(StackError, match="was made with another password; give the same password"):
        Postgres(tmp_path / "data", durable=False).start()


def test_postgres_starts_after_a_cut_initialisation(tmp_path: Path) -> None:
    half = tmp_path / "data.new"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    with Postgres(tmp_path / "data", durable=False) as server:
        psycopg.connect(server.superuser_url()).close()
    assert not half.exists()
    assert not (tmp_path / "data.new.password").exists()


@pytest.mark.parametrize("kind", [Postgres, Redis])
def test_a_taken_port_is_a_clear_error(kind: type[Postgres] | type[Redis], tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind((LOOPBACK, 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortTakenError, match=f"cannot have port {port} "):
            kind(tmp_path / "data", port).start()


def test_redis_keeps_tasks_and_refuses_strangers(tmp_path: Path) -> None:
    lifeline = Lifeline(tmp_path / "lock")
    # A folder that a configuration file has to quote.
    folder = tmp_path / 'a "quoted" folder'
    folder.mkdir()
    with Redis(folder / "data", keep_open=(lifeline.descriptor,)) as server:
        with redis.Redis.from_url(server.url()) as client:
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            assert client.config_get("appendfsync") == {"appendfsync": "everysec"}
            client.rpush("queue", "task")
        with (
            redis.Redis(host=LOOPBACK, port=server.port or 0, retry=Retry(NoBackoff(), 0)) as stranger,
            pytest.raises(redis.AuthenticationError),
        ):
            stranger.ping()
    with (
        Redis(folder / "data", password=server.password, keep_open=(lifeline.descriptor,)) as again,
        redis.Redis.from_url(again.url()) as client,
    ):
        assert client.lrange("queue", 0, -1) == [b"task"]
        lifeline.let_go()
    assert wait_free(lifeline.path, 5)


def test_the_small_model_answers_briefly_and_only_with_its_key(tmp_path: Path) -> None:
    lifeline = Lifeline(tmp_path / "lock")
    with Model(tmp_path / "model.log", keep_open=(lifeline.descriptor,)) as model:
        lifeline.let_go()
        body = {"model": MODEL, "messages": [{"role": "user", "content": "Write a very long story."}]}
        url = f"{model.base_url}/chat/completions"
        assert httpx.post(url, json=body).status_code == 401
        answer = httpx.post(url, json=body, headers={"Authorization": f"Bearer {model.key}"}, timeout=60)
    completion = answer.raise_for_status().json()
    assert completion["model"] == MODEL
    assert completion["choices"][0]["message"]["content"].strip()
    assert completion["usage"]["completion_tokens"] <= REPLY_TOKENS
    assert wait_free(lifeline.path, 5)
