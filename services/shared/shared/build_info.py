"""The metrics that every part has: which version of it runs, and since when."""

from __future__ import annotations

import time
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Gauge

BUILD_INFO = "konstruct_build_info"
"""Name of the metric of the version."""

START_TIME = "konstruct_start_time_seconds"
"""Name of the metric of the start."""


def add_build_info(registry: CollectorRegistry, component: str, distribution: str) -> None:
    """Add ``konstruct_build_info`` of `component`, with the version of the installed `distribution`.

    And ``konstruct_start_time_seconds``: it tells counters that began again from those of another process.
    """
    gauge = Gauge(
        BUILD_INFO,
        "1, with the version that runs.",
        ["component", "version"],
        multiprocess_mode="livemax",  # one, where several processes share a port
        registry=registry,
    )
    gauge.labels(component, version(distribution)).set(1)
    start = Gauge(
        START_TIME,
        "When its counters began at zero, in seconds since 1970.",
        multiprocess_mode="min",
        registry=registry,
    )
    # A process that takes the place of another goes on with its counters, and has its value here too.
    if not any(sample.value for family in start.collect() for sample in family.samples):
        start.set(time.time())
