"""How kopf runs here: it watches and calls handlers, and does nothing else; it never gives up on the API."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import kopf

from shared.kube.client import SILENCE_S, WATCH_SECONDS
from shared.kube.connections import authorization, load_configuration
from shared.kube.errors import KubeError, UnreachableError

CREDENTIALS_S = 600
"""Seconds after which the token is read anew; Kubernetes renews it long before it expires."""

PAGE = 100
"""Agents in one page of a list: people decide how long each is, up to 1.5 MiB."""

_QUOTATION = re.compile(r"(-> \w+|event type:).*", re.DOTALL)
"""Where kopf begins to quote what was answered: Agents with their texts, or whatever a proxy repeats."""


class _Unquoted(logging.Filter):
    """Takes quotations out of lines."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let the rest of `record` through."""
        record.msg, record.args = _QUOTATION.sub(r"\1", record.getMessage()), None
        return True


_UNQUOTED = _Unquoted()


def quiet_kopf() -> None:
    """Have kopf's log say that a request has failed, and how, without what was answered."""
    logging.getLogger("kopf._cogs.clients.watching").addFilter(_UNQUOTED)


class _Patience:
    """Delays between tries that never end, unlike a list."""

    def __iter__(self) -> Iterator[float]:
        delay = UnreachableError.first_delay_s
        while True:
            yield delay
            delay = min(delay * 2, UnreachableError.longest_delay_s)


class _NoDiffs(kopf.DiffBaseStorage):
    """Compares nothing: kopf would copy each object of each event to find out what changed in it."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        """Return nothing to compare."""
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> None:
        """Return nothing to compare with."""

    def store(self, **_: Any) -> None:
        """Store nothing."""


def kopf_settings() -> kopf.OperatorSettings:
    """Build kopf's settings."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.persistence.diffbase_storage = _NoDiffs()
    # CRDs and namespaces are not observed: that would take rights that a Role cannot give.
    settings.scanning.disabled = True
    settings.watching.server_timeout = WATCH_SECONDS
    settings.watching.inactivity_timeout = SILENCE_S
    settings.watching.connect_timeout = 5
    settings.watching.chunk_size = PAGE
    # Its own it would take off an Agent that somebody gave it to, without the right to. No finalizer is "".
    settings.persistence.finalizer = ""
    settings.networking.request_timeout = 15
    settings.networking.connect_timeout = 5
    settings.networking.error_backoffs = _Patience()
    # Each object that changed has a task of its own for so long.
    settings.queueing.idle_timeout = 0.2
    settings.process.ultimate_exiting_timeout = 60
    return settings


def register_login(registry: kopf.OperatorRegistry, kubeconfig: Path | None) -> None:
    """Give kopf the same way to the API that everything else here has."""
    last = [0.0]

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        if time.monotonic() - last[0] < CREDENTIALS_S / 2:
            # Refused, so soon: the token is bad, or the API server not itself yet.
            await asyncio.sleep(2.0)
        last[0] = time.monotonic()
        try:
            return await _connection(kubeconfig)
        except KubeError as error:
            raise kopf.TemporaryError(str(error), delay=5) from error


async def _connection(kubeconfig: Path | None) -> kopf.ConnectionInfo:
    configuration = await load_configuration(kubeconfig)
    header = (await authorization(configuration)).get("authorization", "")
    scheme, _, token = header.partition(" ")
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        ca_data=configuration.ca_cert_data,
        insecure=not configuration.verify_ssl,
        scheme=scheme or None,
        token=token or None,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
        # Never twice the same: kopf refuses to try again what was refused once.
        expiration=datetime.now(UTC) + timedelta(seconds=CREDENTIALS_S),
    )
