"""The operator's HTTP: ``/metrics`` for Prometheus, ``/healthz`` for liveness, ``/readyz`` for readiness."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from konstruct_operator.metrics import OperatorMetrics
from shared.config import ConfigurationError
from shared.net import host_and_port

MOST_CONNECTIONS = 64
"""Connections that are open at once; for one more the oldest is ended."""

BACKLOG = 32
"""Connections that are accepted in one go, by which there may be more for a moment."""


async def serve(
    listen: str,
    metrics: OperatorMetrics,
    problem: Callable[[], str | None],
    unready: Callable[[], str | None],
) -> web.AppRunner:
    """Begin to serve on `listen`; ``/healthz`` fails while there is a `problem`, ``/readyz`` while `unready`.

    Both are answered by the loop that does the work. An outage of the API server is no reason to restart the
    operator, so it is no `problem`; but an operator that cannot do its work is not ready.

    Raises:
        ConfigurationError: the address cannot be used.
    """

    async def show_metrics(_: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    def verdict(wrong: str | None) -> web.Response:
        return web.Response(text=f"{wrong or 'ok'}\n", status=503 if wrong else 200)

    async def show_health(_: web.Request) -> web.Response:
        return verdict(problem())

    async def show_readiness(_: web.Request) -> web.Response:
        return verdict(unready())

    app = web.Application()
    app.add_routes(
        [
            web.get("/metrics", show_metrics),
            web.get("/healthz", show_health),
            web.get("/readyz", show_readiness),
        ]
    )
    listeners: list[asyncio.Server] = []

    async def stop_listening(_: web.Application) -> None:
        for one in listeners:
            one.close()

    app.on_shutdown.append(stop_listening)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    host, port = host_and_port(listen)
    assert runner.server is not None
    bounded = _Bounded(runner.server)
    try:
        listeners.append(await asyncio.get_running_loop().create_server(bounded, host, port, backlog=BACKLOG))
    except OSError as error:
        await runner.cleanup()
        raise ConfigurationError(
            f"KONSTRUCT_OPERATOR_LISTEN: cannot listen on {listen} ({error.strerror}); choose another port"
        ) from None
    return runner


class _Bounded:
    """Makes what serves a connection; where there are too many the oldest is ended: a probe gets in."""

    def __init__(self, server: web.Server) -> None:
        self._server = server

    def __call__(self) -> asyncio.Protocol:
        ways = [one.transport for one in self._server.connections]
        alive = [way for way in ways if way is not None and not way.is_closing()]
        if len(alive) >= MOST_CONNECTIONS:
            alive[0].abort()
        return self._server()
