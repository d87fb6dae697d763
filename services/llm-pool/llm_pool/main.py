"""The application and its process."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException
from starlette.responses import Response

from llm_pool import __version__
from llm_pool.certificates import keep_fresh
from llm_pool.gate import Gate, Load
from llm_pool.metrics import Metrics
from llm_pool.problems import problem
from llm_pool.routes import internal_error, router
from llm_pool.shared_values import shared_folder
from llm_pool.state import open_pool
from llm_pool.wire import PoolProtocol
from shared.config import ConfigurationError, Settings, load_settings
from shared.contract import CompletionRequest, Problem, ProblemCode
from shared.logs import setup_logs
from shared.tls import serving
from shared.tracing import check_tracing, start_tracing, trace_ids

DRAIN_MARGIN_S = 5
"""Seconds beyond the longest request that a stopping process waits for those under way."""

IDLE_CLIENT_S = 75
"""How long an idle connection of a client is kept; longer than clients keep theirs."""

EXIT_USAGE = 2
"""Exit status when the configuration is not usable."""

_NO_TELEMETRY: TelemetryConfig = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}
"""FastAPI would make spans of its own beside ours, for probes too, and log what exceptions say."""

_SCHEMA_REF = "#/components/schemas/{model}"
"""Where the OpenAPI document keeps its schemas."""


class PoolApp(FastAPI):
    """FastAPI whose OpenAPI document also has the models of the contract that no signature names."""

    def openapi(self) -> dict[str, Any]:
        """Return the document; made once."""
        if self.openapi_schema is None:
            document = super().openapi()
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            for model in (CompletionRequest, Problem):
                schema = model.model_json_schema(ref_template=_SCHEMA_REF)
                schemas.update(schema.pop("$defs", {}))
                schemas[model.__name__] = schema
            document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        return self.openapi_schema or {}


def create_app(settings: Settings) -> FastAPI:
    """Make the application. Its resources are built when its lifespan starts."""
    metrics = Metrics(shared_folder())
    load = Load(settings.llm_pool_max_in_flight, metrics.in_flight)
    metrics.in_flight_limit.set(load.limit)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        stop_tracing = start_tracing(settings, "konstruct-llm-pool", __version__)
        async with open_pool(settings, load, metrics) as pool:
            app.state.pool = pool
            yield
            pool.draining = True
        # Here and not after the server's end: uvicorn dies of the signal that it was ended by.
        await asyncio.to_thread(stop_tracing)

    app = PoolApp(
        title="Konstruct llm-pool",
        version=__version__,
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,  # the page would load scripts from elsewhere
        redoc_url=None,
        telemetry=_NO_TELEMETRY,
    )
    app.include_router(router)
    app.add_exception_handler(HTTPException, _no_such_path)
    app.add_exception_handler(Exception, _fault)
    tokens = (settings.llm_pool_token, settings.llm_pool_second_token)
    app.add_middleware(
        Gate,
        metrics=metrics,
        load=load,
        tokens=[token.get_secret_value() for token in tokens if token is not None],
        max_body_bytes=settings.llm_pool_max_body_bytes,
    )
    return app


def app_from_env() -> FastAPI:
    """Make the application from the environment: ``uvicorn --factory llm_pool.main:app_from_env``."""
    return create_app(load_settings())


def __getattr__(name: str) -> FastAPI:
    """Make ``app`` when it is asked for, as by ``uvicorn llm_pool.main:app``; an import makes nothing."""
    if name == "app":
        return app_from_env()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def run() -> None:
    """Serve until SIGTERM or SIGINT: the command ``konstruct-llm-pool``."""
    try:
        settings = load_settings()
        setup_logs(settings, "llm-pool", ids=trace_ids)
        _address(settings.llm_pool_listen)
        asyncio.run(_try_out(settings))
    except ConfigurationError as error:
        sys.stderr.write(f"konstruct-llm-pool: {error}\n")
        sys.exit(EXIT_USAGE)
    if settings.llm_pool_workers > 1:
        # Another program in this one's place: a parent needs nothing of the 150 MB that are imported by now.
        os.execv(sys.executable, [sys.executable, "-m", "llm_pool.processes"])  # noqa: S606 - ours
    serve(settings, PoolServer)


def serve(settings: Settings, kind: type[PoolServer], sockets: list[socket.socket] | None = None) -> None:
    """Serve with a server of `kind`, on `sockets` or on the configured address."""
    app = create_app(settings)
    # Imports leave a quarter of a million objects that never die; walking them at each full collection
    # stalls every request for more than a tenth of a second.
    gc.collect()
    gc.freeze()
    host, port = _address(settings.llm_pool_listen)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        access_log=False,  # metrics count requests; a line for each costs more than it tells
        server_header=False,
        http=PoolProtocol,
        timeout_keep_alive=IDLE_CLIENT_S,
        timeout_graceful_shutdown=int(settings.llm_pool_timeout_s) + DRAIN_MARGIN_S,
        log_config=None,
        ssl_certfile=settings.llm_pool_cert_file,
        ssl_keyfile=None if settings.llm_pool_key_file is None else str(settings.llm_pool_key_file),
    )
    kind(config, app).run(sockets)


class PoolServer(uvicorn.Server):
    """A server that says on ``/readyz`` that it was told to stop, while requests under way finish."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app
        self._renewal: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept, and to look after the certificate if there is one."""
        await super().startup(sockets)
        config = self.config
        if config.ssl is not None and config.ssl_certfile is not None:
            key_file = None if config.ssl_keyfile is None else Path(config.ssl_keyfile)
            renewal = keep_fresh(config.ssl, Path(config.ssl_certfile), key_file)
            self._renewal = asyncio.create_task(renewal)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish what is under way."""
        if self._renewal is not None:
            self._renewal.cancel()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note the signal, then stop as uvicorn does."""
        pool = getattr(self._app.state, "pool", None)
        if pool is not None:
            pool.draining = True
        super().handle_exit(sig, frame)


async def _try_out(settings: Settings) -> None:
    """Build the pool once before the socket is opened, so that a fault is one clear line.

    Raises:
        ConfigurationError: the configuration of groups or of traces is not usable.
    """
    check_tracing(settings)
    if settings.llm_pool_cert_file is not None:
        serving(settings.llm_pool_cert_file, settings.llm_pool_key_file)
    metrics = Metrics()
    async with open_pool(settings, Load(1, metrics.in_flight), metrics, os.environ):
        pass


def _address(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65_535:
        raise ConfigurationError("KONSTRUCT_LLM_POOL_LISTEN: must be address:port, for instance 0.0.0.0:8004")
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104 - what an empty address means


async def _no_such_path(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        detail = "The path does not take this method; the Allow header names those it takes."
    else:
        detail = "There is no such path. The pool serves /complete, /health, /readyz and /metrics."
    headers = dict(error.headers or {})
    return problem(ProblemCode.NOT_FOUND, detail, status=error.status_code, headers=headers)


async def _fault(_request: Request, error: Exception) -> Response:
    return internal_error(error)


if __name__ == "__main__":
    run()
