"""What lives as long as the application: built in its lifespan, closed there."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import aiohttp
import httpx

from llm_pool.budget import Planner
from llm_pool.config_file import load_config_file
from llm_pool.cooldown import Cooldowns
from llm_pool.dispatch import Dispatcher
from llm_pool.gate import Load
from llm_pool.litellm_setup import close_litellm, quiet_litellm
from llm_pool.metrics import Metrics
from llm_pool.pool_config import PoolConfig
from llm_pool.providers.defaults import default_config
from llm_pool.router import PoolRouter
from llm_pool.spans import CallSpans
from shared.config import Settings
from shared.net import attentive_socket
from shared.secret_files import WithFiles

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

CONNECT_TIMEOUT_S = 5.0
"""Longest wait for a connection to a provider: its name's addresses, TCP, a proxy and TLS together."""

KEEP_ALIVE_S = 15.0
"""How long an idle connection is kept; shorter than providers keep theirs, so that none is cut in use."""


@dataclass(slots=True)
class PoolState:
    """The parts of a running pool."""

    router: PoolRouter
    """Groups and deployments."""

    cooldowns: Cooldowns
    """Who is left alone."""

    metrics: Metrics
    """What is counted."""

    dispatcher: Dispatcher
    """Answers requests."""

    load: Load
    """How many completions are under way."""

    draining: bool = False
    """Whether the process was told to stop."""


def read_pool_config(settings: Settings, environ: Mapping[str, str]) -> PoolConfig:
    """Read the configuration file, or make the default groups.

    Raises:
        ConfigurationError: the file is not usable.
    """
    if settings.llm_pool_config is not None:
        return load_config_file(settings.llm_pool_config, environ)
    return default_config(settings, environ)


@asynccontextmanager
async def open_pool(
    settings: Settings, load: Load, metrics: Metrics, environ: Mapping[str, str] | None = None
) -> AsyncIterator[PoolState]:
    """Build the pool and close it at the end.

    Raises:
        ConfigurationError: the configuration of groups is not usable.
    """
    environ = WithFiles(os.environ if environ is None else environ)
    quiet_litellm()
    config = read_pool_config(settings, environ)
    for warning in config.warnings:
        _log.warning("%s", warning)
    async with _session() as session:
        router = PoolRouter(config, session, environ)
        try:
            cooldowns = Cooldowns(
                default_s=_given(config.cooldown_s, settings.llm_pool_cooldown_s),
                allowed_fails=_given(config.allowed_fails, settings.llm_pool_allowed_fails),
            )
            names = [deployment.name for deployment in router.deployments]
            metrics.prepare(
                {group: len(members) for group, members in router.groups.items()},
                names,
                router.fallback_pairs,
                lambda: {name: cooldowns.is_cooling(name) for name in names},
            )
            planner = Planner(
                router,
                cooldowns,
                attempt_timeout_s=settings.llm_pool_attempt_timeout_s,
                ollama_timeout_s=settings.llm_pool_ollama_timeout_s,
            )
            for warning in planner.warnings(settings.llm_pool_timeout_s):
                _log.warning("%s", warning)
            dispatcher = Dispatcher(
                router,
                cooldowns,
                metrics,
                planner=planner,
                timeout_s=settings.llm_pool_timeout_s,
                spans=CallSpans(content=settings.tracing_content),
            )
            for group in router.health(cooldowns):
                if not group.configured:
                    _log.warning(
                        "group %s has no usable deployment; set %s", group.name, ", ".join(group.missing)
                    )
            yield PoolState(router, cooldowns, metrics, dispatcher, load)
        finally:
            router.close()
            await close_litellm()


def _session() -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(
        ssl=httpx.create_ssl_context(),  # certifi's authorities, or SSL_CERT_FILE
        limit=0,  # the pool bounds what is in flight
        keepalive_timeout=KEEP_ALIVE_S,
        socket_factory=attentive_socket,  # a provider behind a black hole is noticed before its time is up
    )
    return aiohttp.ClientSession(
        connector=connector,
        # Each call is bounded as a whole by the dispatcher.
        timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_TIMEOUT_S),
        cookie_jar=aiohttp.DummyCookieJar(),
        max_line_size=65_536,
        max_field_size=65_536,
    )


def _given(value: _T | None, default: _T) -> _T:
    return default if value is None else value
