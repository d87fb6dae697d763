"""Every link encrypted: the right authority works, a wrong one or a wrong name is told in a line."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from konstruct_cli.stack.process import ManagedProcess, claim_port
from orchestrator.main import app, redis_tls
from shared.config import load_settings
from shared.reply import MessageStatus, Reason
from tests.support.stack_command import environment, konstruct
from tests.support.stack_provider import provider_in_thread
from tests.support.tls import Authority, TlsProxy
from tests.support.waiting import eventually
from tests.support.worker import Cell


@dataclass
class Links:
    """A cell whose servers are reached by TLS, as ``localhost`` and under no other name."""

    cell: Cell
    authority: Authority
    stranger: Authority
    redis_port: int
    postgresql_port: int

    def redis(self, host: str = "localhost") -> str:
        return moved(self.cell.redis_url, host, self.redis_port, "rediss")

    def databases(self, host: str = "localhost") -> dict[str, str]:
        urls = {
            "KONSTRUCT_DATABASE_URL": self.cell.database.service_url,
            "KONSTRUCT_SYSTEM_DATABASE_URL": self.cell.database.system_url,
            "KONSTRUCT_MIGRATION_DATABASE_URL": self.cell.database.owner_url,
        }
        return {name: moved(url, host, self.postgresql_port) for name, url in urls.items()}

    def postgresql(self, authority: Authority | None = None, host: str = "localhost") -> dict[str, str]:
        ca_file = (authority or self.authority).ca_file
        return {**self.databases(host), "PGSSLMODE": "verify-full", "PGSSLROOTCERT": str(ca_file)}


def moved(url: str, host: str, port: int, scheme: str | None = None) -> str:
    parts = urlsplit(url)
    login, _, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(scheme=scheme or parts.scheme, netloc=f"{login}@{host}:{port}"))


@pytest.fixture
def links(cell: Cell) -> Iterator[Links]:
    authority, stranger = (Authority(cell.folder / name) for name in ("authority", "stranger"))
    redis_port, postgresql_port = (
        urlsplit(url).port or 0 for url in (cell.redis_url, cell.database.service_url)
    )
    context = authority.serving("localhost")
    with (
        TlsProxy(redis_port, context) as redis,
        TlsProxy(postgresql_port, context, postgresql=True) as postgresql,
    ):
        yield Links(cell, authority, stranger, redis.port, postgresql.port)
        for worker in cell.workers:
            worker.stop()


def ending(command: list[str], **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a program that is to refuse its settings."""
    return subprocess.run(
        command, env=environment(**settings), capture_output=True, text=True, check=False, timeout=60
    )


WORKER = [sys.executable, "-m", "orchestrator"]
MIGRATE = [sys.executable, "-c", "from shared.migrate import run; run()", "--check"]


def test_a_message_by_encrypted_links_alone(links: Links) -> None:
    cell = links.cell
    cert_file, key_file = links.authority.certify("localhost")
    port = claim_port("llm-pool", None)
    with provider_in_thread("ollama", "qwen3:8b") as ollama:
        env = {
            "PATH": os.environ["PATH"],
            "OLLAMA_BASE_URL": ollama.root,
            "KONSTRUCT_LLM_POOL_LISTEN": f"127.0.0.1:{port}",
            "KONSTRUCT_LLM_POOL_CERT_FILE": str(cert_file),
            "KONSTRUCT_LLM_POOL_KEY_FILE": str(key_file),
        }
        command = [sys.executable, "-c", "from llm_pool.main import run; run()"]
        with ManagedProcess("llm-pool", command, log=cell.folder / "pool.log", env=env) as pool:
            pool.wait_ready(lambda: served(port, links.authority) is not None, 90)
            there = {
                **links.postgresql(),
                "KONSTRUCT_REDIS_URL": links.redis(),
                "KONSTRUCT_REDIS_CA_FILE": str(links.authority.ca_file),
                "KONSTRUCT_LLM_POOL_URL": f"https://localhost:{port}",
                "KONSTRUCT_LLM_POOL_REPLICAS_URL": f"https://localhost:{port}",
                "KONSTRUCT_LLM_POOL_CA_FILE": str(links.authority.ca_file),
            }
            cell.start_worker(**there)
            env = cell.environment(**there)
            sent = konstruct("send", "--tenant", "acme", "--agent", "ada", "hello", cwd=cell.folder, env=env)
            assert (sent.code, "Hello from the stub" in sent.out) == (0, True), sent.err
            status = konstruct("status", "--json", cwd=cell.folder, env=env)
            assert '"silent": []' in status.out, status.out
            assert status.out.count('"ok": true') >= 3, status.out

            # A renewed certificate is served to the next who connects.
            before = served(port, links.authority)
            links.authority.certify("localhost")
            eventually(
                lambda: served(port, links.authority) not in (None, before), what="the new certificate"
            )
            again = konstruct("send", "--tenant", "acme", "--agent", "ada", "hello", cwd=cell.folder, env=env)
            assert again.code == 0, again.err
            pool.stop()
    assert links.cell.pool.requests == []


def served(port: int, authority: Authority) -> bytes | None:
    """Return the certificate that a trusting client is shown."""
    context = ssl.create_default_context(cafile=str(authority.ca_file))
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as link,
        ):
            return link.getpeercert(binary_form=True)
    except OSError:
        return None


def test_a_redis_that_is_not_trusted_ends_the_worker_with_a_line(links: Links) -> None:
    postgresql = {**links.postgresql(), "KONSTRUCT_AGENTS_DIR": str(links.cell.agents)}
    cases = [
        (links.redis(), links.stranger, "its certificate is not trusted: "),
        (links.redis(), None, "its certificate is not trusted: "),
        (links.redis("127.0.0.1"), links.authority, "its certificate is not trusted: IP address mismatch"),
    ]
    for url, authority, said in cases:
        files = {} if authority is None else {"KONSTRUCT_REDIS_CA_FILE": str(authority.ca_file)}
        ended = ending(WORKER, KONSTRUCT_REDIS_URL=url, **files, **postgresql)
        assert ended.returncode == 2, ended.stderr
        (line,) = [one for one in ended.stderr.splitlines() if one.startswith("konstruct-worker: ")]
        assert line.startswith(f"konstruct-worker: KONSTRUCT_REDIS_URL: {said}")
        assert "KONSTRUCT_REDIS_CA_FILE names its authority" in line
        assert "Traceback" not in ended.stderr


def test_status_says_why_redis_does_not_answer(links: Links) -> None:
    ca_file = str(links.stranger.ca_file)
    env = links.cell.environment(KONSTRUCT_REDIS_URL=links.redis(), KONSTRUCT_REDIS_CA_FILE=ca_file)
    status = konstruct("status", "--json", cwd=links.cell.folder, env=env)
    assert "its certificate is not trusted" in status.out


def test_a_redis_that_wants_a_certificate_of_its_clients(links: Links) -> None:
    cell = links.cell
    cert_file, key_file = links.authority.certify("worker")
    port = urlsplit(cell.redis_url).port or 0
    with TlsProxy(port, links.authority.serving("localhost", clients=True)) as redis:
        worker = cell.start_worker(
            KONSTRUCT_REDIS_URL=moved(cell.redis_url, "localhost", redis.port, "rediss"),
            KONSTRUCT_REDIS_CA_FILE=str(links.authority.ca_file),
            KONSTRUCT_REDIS_CERT_FILE=str(cert_file),
            KONSTRUCT_REDIS_KEY_FILE=str(key_file),
        )
        message = cell.message("hello")
        cell.submit(message)
        assert cell.reply(message).status is MessageStatus.ANSWERED
        worker.stop()


def test_a_postgresql_that_is_not_trusted_is_told_in_a_line(links: Links) -> None:
    cases = [
        (links.stranger, "localhost", "certificate verify failed"),
        (links.authority, "127.0.0.1", "does not match host name"),
    ]
    others = {"KONSTRUCT_AGENTS_DIR": str(links.cell.agents), "KONSTRUCT_REDIS_URL": links.cell.redis_url}
    for authority, host, said in cases:
        settings = links.postgresql(authority, host)
        for command in (WORKER, MIGRATE[:-1]):
            ended = ending(command, **settings, **others)
            assert ended.returncode == 2, ended.stderr
            (line,) = [one for one in ended.stderr.splitlines() if one.startswith("konstruct-")]
            assert said in line
            assert "PGSSLROOTCERT (or sslrootcert in the URL) names its authority" in line
            assert "password" not in ended.stderr
        sent = konstruct(
            *("send", "--tenant", "acme", "--agent", "ada", "hello"),
            cwd=links.cell.folder,
            env=environment(**settings, **others),
        )
        assert sent.code != 0
        assert said in sent.err.replace("\n", " ")
    # In the URL instead of the environment; and who does not encrypt is not let in.
    bad = {name: f"{url}?sslmode=disable" for name, url in links.databases().items()}
    assert ending(MIGRATE, **bad).returncode == 1
    good = f"?sslmode=verify-full&sslrootcert={links.authority.ca_file}"
    assert ending(MIGRATE, **{name: url + good for name, url in links.databases().items()}).returncode == 0


def test_a_pool_that_is_not_trusted_is_asked_nothing(links: Links) -> None:
    cell = links.cell
    with ExitStack() as running:
        port = urlsplit(cell.pool.url).port or 0
        proxy = running.enter_context(TlsProxy(port, links.authority.serving("localhost")))
        for host, authority, said in (
            ("localhost", links.stranger, "its certificate is not trusted: "),
            ("127.0.0.1", links.authority, "its certificate is not trusted: IP address mismatch"),
        ):
            worker = cell.start_worker(
                KONSTRUCT_LLM_POOL_URL=f"https://{host}:{proxy.port}",
                KONSTRUCT_LLM_POOL_CA_FILE=str(authority.ca_file),
                KONSTRUCT_MESSAGE_DEADLINE_S="3",
            )
            message = cell.message("hello")
            cell.submit(message)
            assert cell.reply(message).reason is Reason.POOL_UNREACHABLE
            assert said in worker.log.read_text()
            worker.stop()
    assert cell.pool.requests == []


@pytest.mark.parametrize("program", ["llm-pool", "worker"])
def test_a_file_that_cannot_be_used_is_a_line(program: str, tmp_path: Path) -> None:
    nothing, junk = tmp_path / "nothing.crt", tmp_path / "junk.crt"
    junk.write_text("no certificate")
    for file in (nothing, junk):
        if program == "llm-pool":
            command = [sys.executable, "-c", "from llm_pool.main import run; run()"]
            settings = {"KONSTRUCT_LLM_POOL_CERT_FILE": str(file)}
        else:
            command = WORKER
            settings = {"KONSTRUCT_REDIS_CA_FILE": str(file), "KONSTRUCT_REDIS_URL": "rediss://localhost:1/0"}
        ended = ending(command, **settings)
        assert ended.returncode == 2, ended.stderr
        assert f"{next(iter(settings))}: {file} cannot be used" in ended.stderr
        assert "Traceback" not in ended.stderr


def test_a_url_may_say_all_of_it() -> None:
    url = "rediss://localhost:6379/0?ssl_cert_reqs=required&ssl_ca_certs=/ca.crt"
    assert redis_tls(load_settings({"KONSTRUCT_REDIS_URL": url})) == {}
    assert redis_tls(load_settings({"KONSTRUCT_REDIS_URL": "redis://localhost:6379/0"})) == {}
    assert (
        redis_tls(load_settings({"KONSTRUCT_REDIS_URL": "rediss://localhost:6379/0"}))["ssl_cert_reqs"]
        is ssl.CERT_REQUIRED
    )
    assert app.conf.accept_content == ["json"]
