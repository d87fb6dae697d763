"""The metric that every part has: which version of it runs."""

from __future__ import annotations

from importlib.metadata import version

from prometheus_client import CollectorRegistry, Gauge

BUILD_INFO = "konstruct_build_info"
"""Name of the metric."""


def add_build_info(registry: CollectorRegistry, component: str, distribution: str) -> None:
    """Add ``konstruct_build_info`` of `component`, with the version of the installed `distribution`."""
    gauge = Gauge(
        BUILD_INFO,
        "1, with the version that runs.",
        ["component", "version"],
        multiprocess_mode="livemax",  # one, where several processes share a port
        registry=registry,
    )
    gauge.labels(component, version(distribution)).set(1)
