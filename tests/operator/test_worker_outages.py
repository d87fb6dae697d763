"""What a watch can die of, with a real API server: the worker stays alive, and catches up by itself."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import aiohttp
import httpx
import pytest

from shared.kube import client as kube_client
from shared.kube.client import KubeClient
from shared.kube.names import agents_path
from shared.kube.objects import Object
from shared.kube.watch import Change, Follower
from shared.reply import MessageStatus, Reason
from tests.operator.worker_stage import Stage, Worker
from tests.support.control_plane import ControlPlane
from tests.support.tcp_proxy import Mode, TcpProxy
from tests.support.waiting import eventually

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


async def test_a_half_open_watch_is_given_up(
    stage: Stage, proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No byte and no end comes through any more; only the read timeout can tell (90 s, here 2)."""
    monkeypatch.setattr(kube_client, "WATCH_TIMEOUT", aiohttp.ClientTimeout(total=None, sock_read=2))
    stage.operator.apply(stage.tenant, "ada")
    seen: asyncio.Queue[int] = asyncio.Queue()

    class Versions:
        async def replaced(self, objects: list[Object], resource_version: str) -> None:
            seen.put_nowait(int(resource_version))

        async def changed(self, changes: list[Change], resource_version: str) -> None:
            seen.put_nowait(int(resource_version))

    async def follows(prompt: str) -> None:
        edit = stage.operator.apply(stage.tenant, "ada", systemPrompt=prompt)
        while await seen.get() < edit.version:
            pass

    client = KubeClient(stage.kubeconfig_through(proxy.port))
    follower = Follower(client, agents_path(stage.tenant), Versions())
    following = asyncio.create_task(follower.run())
    try:
        async with asyncio.timeout(30):
            await seen.get()
            await follows("Through an open socket.")
            proxy.freeze()
            await follows("Behind a half-open one.")
            proxy.reset()
            await follows("After the reset.")
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await client.close()
