"""The operator's HTTP: ``/metrics`` for Prometheus, ``/healthz`` for liveness and readiness."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from konstruct_operator.metrics import OperatorMetrics
from shared.config import ConfigurationError
from shared.net import host_and_port


async def serve(listen: str, metrics: OperatorMetrics, problem: Callable[[], str | None]) -> web.AppRunner:
    """Begin to serve on `listen`; ``/healthz`` fails while there is a `problem`.

    It is answered by the loop that does the work, and asks nothing of the API server: an outage there is no
    reason to restart the operator.

    Raises:
        ConfigurationError: the address cannot be used.
    """

    async def show_metrics(_: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    async def show_health(_: web.Request) -> web.Response:
        wrong = problem()
        return web.Response(text=f"{wrong or 'ok'}\n", status=503 if wrong else 200)

    app = web.Application()
    app.add_routes([web.get("/metrics", show_metrics), web.get("/healthz", show_health)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    host, port = host_and_port(listen)
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        await runner.cleanup()
        raise ConfigurationError(
            f"KONSTRUCT_OPERATOR_LISTEN: cannot listen on {listen} ({error.strerror}); choose another port"
        ) from None
    return runner
