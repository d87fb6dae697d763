"""What a watch can die of, with a real API server: the worker stays alive, and catches up by itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator

import aiohttp
import httpx
import pytest

from shared.kube import client as kube_client
from shared.kube.client import KubeClient
from shared.kube.connections import IDLE_S
from shared.kube.names import agents_path
from shared.kube.objects import Object
from shared.kube.watch import Change, Follower
from shared.reply import MessageStatus, Reason
from tests.operator.worker_stage import Stage, Worker
from tests.support.control_plane import ControlPlane
from tests.support.tcp_proxy import Mode, TcpProxy
from tests.support.waiting import eventually, until

pytest_plugins = ["tests.operator.worker_fixtures"]

LONG_S = 60
"""Duration of a Lease that no outage here outlasts: the watch alone must recover."""


@pytest.fixture
def proxy(control_plane: ControlPlane) -> Iterator[TcpProxy]:
    with TcpProxy(int(control_plane.url.rpartition(":")[2])) as made:
        yield made


def catches_up(stage: Stage, worker: Worker, prompt: str, within_s: float = 30.0) -> None:
    """Whether an edit made now takes effect."""
    edit = stage.operator.apply(stage.tenant, "ada", systemPrompt=prompt)
    worker.sees(stage.tenant, edit, within_s=within_s)
    assert stage.ask().revision == edit.revision


def test_a_worker_starts_without_the_api_server_and_fails_no_message(stage: Stage, proxy: TcpProxy) -> None:
    written = stage.operator.apply(stage.tenant, "ada")
    proxy.set(Mode.REFUSE)
    worker = stage.worker(kubeconfig=stage.kubeconfig_through(proxy.port))
    message = stage.cell.message("hello", tenant_id=stage.tenant)
    stage.cell.submit(message)
    eventually(lambda: "cannot be renewed" in worker.log())
    assert (worker.probe("/healthz"), worker.probe("/readyz")) == (200, 503)
    assert worker.metric("konstruct_watch_connected") == worker.metric("konstruct_worker_consuming") == 0
    assert stage.cell.queued() == 1
    eventually(lambda: worker.metric("konstruct_backlog_messages") == 1)
    proxy.set(Mode.PASS)
    assert stage.cell.reply(message).revision == written.revision
    worker.ready()
    assert stage.ask("nobody").reason is Reason.AGENT_UNKNOWN
    eventually(lambda: worker.metric("konstruct_watch_connected") == 1)
    assert worker.metric("konstruct_worker_consuming") == 1


def test_a_dropped_watch_goes_on_where_it_was(stage: Stage, proxy: TcpProxy) -> None:
    stage.operator.apply(stage.tenant, "ada")
    worker = stage.worker(kubeconfig=stage.kubeconfig_through(proxy.port), lease_s=LONG_S).ready()
    for number in range(3):
        proxy.reset()
        catches_up(stage, worker, f"After drop {number}.")
    assert len(stage.asked("agents", "list")) == 1


def test_a_restart_of_the_api_server(stage: Stage) -> None:
    stage.operator.apply(stage.tenant, "ada")
    worker = stage.worker(lease_s=LONG_S).ready()
    stage.cluster.stop_apiserver()
    eventually(lambda: worker.metric("konstruct_watch_connected") == 0)
    assert stage.ask().status is MessageStatus.ANSWERED  # its Lease has not run out
    stage.cluster.start_apiserver()
    catches_up(stage, worker, "After the restart.")


def test_a_version_that_is_gone_from_the_history(stage: Stage, proxy: TcpProxy) -> None:
    """410: the worker sleeps while etcd is compacted and the API server forgets what it had cached."""
    stage.operator.apply(stage.tenant, "ada")
    stage.operator.apply(stage.tenant, "bob")
    worker = stage.worker(kubeconfig=stage.kubeconfig_through(proxy.port), lease_s=LONG_S).ready()
    os.kill(worker.process.pid, signal.SIGSTOP)
    proxy.freeze()  # what its kernel would take in for it
    try:
        edit = stage.operator.apply(stage.tenant, "ada", systemPrompt="While it slept.")
        stage.operator.delete(stage.tenant, "bob")
        later = stage.operator.apply(stage.tenant, "eve")
        etcd = stage.cluster._etcd_url
        compaction = {"revision": str(later.version), "physical": True}
        httpx.post(f"{etcd}/v3/kv/compaction", json=compaction).raise_for_status()
        stage.cluster.restart_apiserver()
        proxy.reset()
    finally:
        os.kill(worker.process.pid, signal.SIGCONT)
    worker.sees(stage.tenant, later)
    assert "listing anew" in worker.log()
    assert stage.ask().revision == edit.revision
    assert stage.ask("bob").reason is Reason.AGENT_UNKNOWN
    assert stage.ask("eve").revision == later.revision


def test_a_token_that_is_no_longer_accepted(stage: Stage) -> None:
    """The kubelet replaces a Pod's token in its file; here the file is a kubeconfig."""
    stage.operator.apply(stage.tenant, "ada")
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "bound", "namespace": stage.release},
    }
    stage.cluster.apply(secret)
    token = stage.cluster.kubectl(
        "create",
        "token",
        "worker",
        f"--namespace={stage.release}",
        "--bound-object-kind=Secret",
        "--bound-object-name=bound",
    ).strip()
    good = stage.kubeconfig.read_text()
    path = stage.kubeconfig.with_suffix(".bound.json")
    path.write_text(stage.kubeconfig_with(token))
    worker = stage.worker(kubeconfig=path).ready()
    stage.cluster.kubectl("delete", "secret", "bound", f"--namespace={stage.release}")
    # The API server remembers for some seconds that the token was good.
    eventually(lambda: "cannot be renewed: 401" in worker.log(), within_s=40)
    eventually(lambda: worker.probe("/readyz") == 503)
    assert worker.probe("/healthz") == 200
    path.write_text(good)
    worker.ready()
    catches_up(stage, worker, "With a new token.")


class Versions:
    """A sink that passes on which resource versions it was told of."""

    def __init__(self) -> None:
        self.seen: asyncio.Queue[int] = asyncio.Queue()

    async def replaced(self, objects: list[Object], resource_version: str) -> None:
        self.seen.put_nowait(int(resource_version))

    async def changed(self, changes: list[Change], resource_version: str) -> None:
        self.seen.put_nowait(int(resource_version))


@contextlib.asynccontextmanager
async def following(stage: Stage, port: int) -> AsyncIterator[tuple[Follower, Versions]]:
    """Follow the stage's Agents by way of `port`, as a worker does."""
    client, versions = KubeClient(stage.kubeconfig_through(port)), Versions()
    follower = Follower(client, agents_path(stage.tenant), versions)
    running = asyncio.create_task(follower.run())
    try:
        async with asyncio.timeout(30):
            await versions.seen.get()
            yield follower, versions
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await client.close()


async def test_a_half_open_watch_is_given_up(
    stage: Stage, proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No byte and no end comes through any more; only the read timeout can tell (13 s, here 2)."""
    monkeypatch.setattr(kube_client, "WATCH_TIMEOUT", aiohttp.ClientTimeout(total=None, sock_read=2))
    stage.operator.apply(stage.tenant, "ada")
    async with following(stage, proxy.port) as (_, versions):

        async def follows(prompt: str) -> None:
            edit = stage.operator.apply(stage.tenant, "ada", systemPrompt=prompt)
            while await versions.seen.get() < edit.version:
                pass

        await follows("Through an open socket.")
        proxy.freeze()
        await follows("Behind a half-open one.")
        proxy.reset()
        await follows("After the reset.")


async def test_a_watch_with_nothing_to_tell_is_heard_of_without_a_gap(
    stage: Stage, proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The API server ends it, and it goes on over the same connection: silence is a fault (10 s, here 1)."""
    monkeypatch.setattr(kube_client, "WATCH_SECONDS", 1)
    monkeypatch.setattr(kube_client, "WATCH_TIMEOUT", aiohttp.ClientTimeout(total=None, sock_read=20))
    stage.operator.apply(stage.tenant, "ada")
    async with following(stage, proxy.port) as (follower, versions):
        await until(lambda: follower.connected)
        connections = proxy.count
        while len(stage.asked("agents", "watch")) < 4:  # an event is written at the end of each
            assert follower.connected
            await asyncio.sleep(0.01)
        assert (len(stage.asked("agents", "list")), proxy.count) == (1, connections)
        edit = stage.operator.apply(stage.tenant, "ada", systemPrompt="The present.")
        while await versions.seen.get() < edit.version:
            pass
    assert caplog.records == []


def test_silence_is_told_from_a_watch_with_nothing_to_tell() -> None:
    assert kube_client.WATCH_SECONDS < kube_client.SILENCE_S
    # What is idle since before a watch fell silent is as dead, and must not be taken for the next request.
    assert IDLE_S < kube_client.SILENCE_S
