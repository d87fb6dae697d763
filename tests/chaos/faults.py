"""Every fault of the suite, in the order of the table in docs/guarantees.md."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import partial
from signal import SIGKILL, SIGTERM

from tests.chaos import kills, strains
from tests.chaos.round import Fault
from tests.chaos.stage import Stage
from tests.support.providers import answer, drip, garbage, hang

CUT_S = 3.0
"""Seconds that a link is cut."""

SWALLOWED_S = {"pool-provider": 45.0, "worker-api": 45.0}
"""Seconds that a link swallows everything, where it takes 30 s by default to notice: a call to a provider has
timed out by then, and a worker's Lease has run out."""

BRIEFLY_S = 6.0
"""Seconds that any other link does."""

HUNG_S = 75.0
"""Seconds that providers hang: each of the two has been given up by then, and everybody knows."""

STRAINED_S = 8.0
"""Seconds that what nobody dies of lasts."""

SKEW_S = 6 * 3600.0
"""Seconds that a clock is wrong by."""

HUGE = 64 * 1024 * 1024
"""Characters of a huge answer."""


def _cut(link: str, stage: Stage) -> AbstractContextManager[None]:
    return stage.links.cut(link)


def _swallow(link: str, stage: Stage) -> AbstractContextManager[None]:
    return stage.links.swallow(link)


_LINKS = (
    # link, its ends for people, apologies, edits
    ("worker-redis", "workers and Redis", False, False),
    ("worker-postgres", "workers and PostgreSQL", False, False),
    ("worker-pool", "workers and the llm-pool", True, False),
    ("pool-provider", "the llm-pool and every provider", True, False),
    ("sender-redis", "the sender and Redis", False, False),
    ("sender-postgres", "the sender and PostgreSQL", False, False),
    ("worker-api", "workers and the Kubernetes API", False, True),
    ("operator-api", "the operator and the Kubernetes API", False, True),
)

_KILLS = (
    Fault("worker-sigkill", "SIGKILL of a worker", kills.worker(SIGKILL), short=True),
    Fault("worker-sigterm", "SIGTERM of a worker", kills.worker(SIGTERM)),
    Fault("workers-sigkill", "SIGKILL of all workers at once", kills.worker(SIGKILL, 2)),
    Fault("pool-sigkill", "SIGKILL of the llm-pool", kills.pool(SIGKILL), apologies=True, short=True),
    Fault("pool-sigterm", "SIGTERM of the llm-pool", kills.pool(SIGTERM), apologies=True),
    Fault("sender-sigkill", "SIGKILL of the sender", kills.sender(SIGKILL), short=True),
    Fault("sender-sigterm", "SIGTERM of the sender", kills.sender(SIGTERM)),
    Fault("sweeper-sigkill", "SIGKILL of the worker that is sweeping", kills.sweeper),
    Fault("operator-sigkill", "SIGKILL of the operator", kills.operator(SIGKILL), edits=True),
    Fault("operator-sigterm", "SIGTERM of the operator", kills.operator(SIGTERM), edits=True),
    Fault("redis-sigkill", "SIGKILL of Redis", kills.redis),
    Fault("redis-emptied", "SIGKILL of Redis, its data deleted", kills.redis_emptied, short=True),
    Fault("postgres-sigkill", "SIGKILL of PostgreSQL", kills.postgres, short=True),
)

_CUTS = tuple(
    Fault(f"cut-{link}", f"cut between {ends}", partial(_cut, link), CUT_S, apologies, edits)
    for link, ends, apologies, edits in _LINKS
)

_BLACK_HOLES = tuple(
    Fault(
        f"blackhole-{link}",
        f"black hole between {ends}",
        partial(_swallow, link),
        SWALLOWED_S.get(link, BRIEFLY_S),
        apologies,
        edits,
    )
    for link, ends, apologies, edits in _LINKS
)

_STRAINS = (
    Fault("redis-disk-full", "no space for Redis to write", strains.redis_disk_full, STRAINED_S, short=True),
    Fault("clock-ahead", "a worker's clock 6 hours ahead", strains.clock(SKEW_S), STRAINED_S),
    Fault("clock-behind", "a worker's clock 6 hours behind", strains.clock(-SKEW_S), STRAINED_S),
    Fault("provider-hang", "both quality providers hang", strains.providers(hang()), HUNG_S),
    Fault("provider-drip", "they send a byte each half second", strains.providers(drip()), HUNG_S),
    Fault(
        "provider-garbage", "they answer with no JSON", strains.providers(garbage()), STRAINED_S, short=True
    ),
    Fault("provider-huge", "they answer with 64 MB", strains.providers(answer("x" * HUGE)), STRAINED_S),
)

FAULTS: tuple[Fault, ...] = (*_KILLS, *_CUTS, *_BLACK_HOLES, *_STRAINS)
"""All of them."""
