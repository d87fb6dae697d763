"""The replicas of the llm-pool: finding them all, reading their metrics, and following those over time."""

from __future__ import annotations

import socket
import ssl
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
from pydantic import BaseModel

from konstruct_cli.pool_metrics import Counts, Reading, Traffic, increase, read_metrics, total, traffic
from shared.config import Settings
from shared.tls import trusting

HTTP_TIMEOUT_S = 3.0
"""Longest that a replica may take to answer about itself."""

AT_ONCE = 16
"""Replicas that are read at the same time."""


class Interval(BaseModel):
    """What was asked of the pool between two looks."""

    seconds: float
    """Time between them."""

    traffic: Traffic
    """What was asked."""


class Replicas(BaseModel):
    """The metrics of every replica of the pool, as they are now."""

    addresses: int = 0
    """Addresses at which replicas were looked for."""

    silent: list[str] = []
    """Those that did not answer."""

    cooling: list[str] = []
    """Deployments that any replica leaves alone after failures."""

    since_start: Traffic = Traffic()
    """What was asked of those that answered, since each of them started."""

    interval: Interval | None = None
    """What was asked since the look before; null at the first."""

    note: str | None = None
    """What keeps this from being the whole truth."""


@dataclass(frozen=True, slots=True)
class _Look:
    """One reading and when it was made."""

    reading: Reading
    at: float
    """On the monotonic clock."""


class Follower:
    """Reads all replicas, again and again, and tells what happened between two looks. For one thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._seen: dict[tuple[str, float | None], _Look] = {}
        self._processes: defaultdict[str, set[float | None]] = defaultdict(set)
        self._looked: tuple[float, float] | None = None
        """When it looked last: monotonic, and in seconds since 1970."""
        self._balanced = False

    def look(self) -> Replicas:
        """Read every replica once."""
        addresses = replica_urls(self._settings)
        with ThreadPoolExecutor(AT_ONCE) as threads:
            readings = dict(zip(addresses, threads.map(self._read, addresses), strict=True))
        found = {address: look for address, look in readings.items() if look is not None}
        before, self._looked = self._looked, (time.monotonic(), time.time())
        added = [self._added(address, look, before) for address, look in found.items()]
        interval = None
        if before is not None:
            counts = total(counted for counted, _ in added)
            rates = total({key: value / s for key, value in counted.items()} for counted, s in added)
            interval = Interval(seconds=self._looked[0] - before[0], traffic=traffic(counts, rates))
        return Replicas(
            addresses=len(addresses),
            silent=sorted(set(addresses) - set(found)),
            cooling=sorted({name for look in found.values() for name in look.reading.cooling}),
            since_start=traffic(total(look.reading.counts for look in found.values())),
            interval=interval,
            note=self._note(),
        )

    def _read(self, url: str) -> _Look | None:
        try:
            # A replica is asked by its address, and has the certificate of the pool's name.
            name = {"sni_hostname": httpx.URL(self._settings.llm_pool_url).host}
            with pool_client(self._settings) as client:
                answer = client.get(f"{url}/metrics", extensions=name).raise_for_status()
            return _Look(read_metrics(answer.text), time.monotonic())
        except (httpx.HTTPError, ValueError, KeyError):
            return None

    def _added(self, address: str, look: _Look, before: tuple[float, float] | None) -> tuple[Counts, float]:
        """Say what a process counted since it was read last, and over how many seconds."""
        started = look.reading.started
        others = self._processes[address] - {started}
        self._processes[address].add(started)
        last = self._seen.get((address, started))
        self._seen[address, started] = look
        if last is not None:
            return increase(last.reading.counts, look.reading.counts), max(look.at - last.at, 1e-3)
        if before is not None and started is not None and started > before[1]:
            return look.reading.counts, max(look.at - before[0], 1e-3)  # all of it since the last look
        # It counted before it was first seen: where it begins is known only now.
        self._balanced = self._balanced or bool(others)
        return dict.fromkeys(look.reading.counts, 0.0), 1.0

    def _note(self) -> str | None:
        if not self._balanced:
            return None
        return (
            f"several processes answer behind {self._settings.llm_pool_url}, and each look sees one of them: "
            "set KONSTRUCT_LLM_POOL_REPLICAS_URL to a name that resolves to all of them"
        )


def replica_urls(settings: Settings) -> list[str]:
    """Find the address of every replica, or the one address of the pool where no name gives them all."""
    every = settings.llm_pool_replicas_url
    if every is None:
        return [settings.llm_pool_url.rstrip("/")]
    url = httpx.URL(every.rstrip("/"))
    try:
        port = url.port or (443 if url.scheme == "https" else 80)
        found = socket.getaddrinfo(url.host, port, type=socket.SOCK_STREAM)
    except OSError:
        return [str(url)]
    return sorted({str(url.copy_with(host=str(address[4][0]))) for address in found})


def pool_client(settings: Settings, **options: Any) -> httpx.Client:
    """Make a client of the pool, without the system's proxies, that trusts whom the settings say."""
    trust: ssl.SSLContext | bool = False
    if settings.llm_pool_url.startswith("https://"):
        trust = trusting(settings.llm_pool_ca_file, "llm_pool_ca_file")
    return httpx.Client(timeout=HTTP_TIMEOUT_S, trust_env=False, verify=trust, **options)
