"""A worker that is alive and hears none of its messages: its liveness probe fails, and no other's does."""

from __future__ import annotations

import time
from dataclasses import dataclass

import httpx

from konstruct_cli.stack.process import claim_port
from konstruct_cli.stack.redis import Redis
from orchestrator.hearing import DEAF_S, SAMPLE_S
from shared.reply import MessageStatus
from tests.support.tcp_proxy import Mode, TcpProxy
from tests.support.waiting import eventually
from tests.support.worker import Cell


@dataclass
class Probed:
    """A worker and its liveness probe."""

    url: str

    def alive(self) -> bool:
        return httpx.get(f"{self.url}/healthz", trust_env=False, timeout=5).status_code == 200


def start(cell: Cell, redis_url: str) -> Probed:
    port = claim_port("worker", None)
    cell.start_worker(KONSTRUCT_REDIS_URL=redis_url, KONSTRUCT_WORKER_LISTEN=f"127.0.0.1:{port}")
    return Probed(f"http://127.0.0.1:{port}")


def proxy_of(server: Redis) -> TcpProxy:
    """Make a proxy of the broker."""
    return TcpProxy(int(server.address.rpartition(":")[2]))


def deliver(cell: Cell, count: int) -> None:
    """Queue messages as a gateway may: nothing else knows of them yet, so nobody queues them again."""
    for number in range(count):
        cell.deliver(cell.message(f"{number}").model_dump(mode="json"))


def test_a_deaf_worker_is_found_within_its_minute(cell: Cell, redis_server: Redis) -> None:
    """All at once, since a minute is a minute: one that is deaf, one that idles, one whose Redis is away."""
    with proxy_of(redis_server) as proxy, proxy_of(redis_server) as away:
        urls = [redis_server.url(0), redis_server.url(1), redis_server.url(2)]
        deaf = start(cell, urls[0].replace(redis_server.address, f"127.0.0.1:{proxy.port}"))
        idle = start(cell, urls[1])
        alone = start(cell, urls[2].replace(redis_server.address, f"127.0.0.1:{away.port}"))
        message = cell.message("hello")
        cell.submit(message)
        assert cell.reply(message).status is MessageStatus.ANSWERED

        # Whenever it asks for messages it gets no answer: everything else goes on.
        proxy.mute(b"BRPOP")
        away.set(Mode.BLACKHOLE)
        deliver(cell, 3)
        began = time.monotonic()
        eventually(lambda: not deaf.alive(), within_s=DEAF_S + 4 * SAMPLE_S, what="its deafness")
        assert time.monotonic() - began >= DEAF_S - SAMPLE_S
        assert cell.queued() > 0
        assert idle.alive()
        assert alone.alive()


def test_a_wait_for_messages_that_is_lost_is_begun_anew(cell: Cell, redis_server: Redis) -> None:
    """As a firewall forgets what was quiet for too long: that alone makes no worker deaf."""
    with proxy_of(redis_server) as proxy:
        worker = start(cell, redis_server.url(0).replace(redis_server.address, f"127.0.0.1:{proxy.port}"))
        proxy.freeze()
        messages = [cell.message(f"{number}") for number in range(3)]
        cell.submit(*messages)
        for message in messages:
            assert cell.reply(message, within_s=60).status is MessageStatus.ANSWERED
        assert worker.alive()
