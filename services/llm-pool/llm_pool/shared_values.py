"""Metrics of several processes behind one port: each writes its values to a file, and any answers for all.

Prometheus's client does that when ``PROMETHEUS_MULTIPROC_DIR`` names a folder. Its files are named after
slots here, not process ids: who takes a dead process's place goes on with its counters, so there are never
more files than processes, however often one dies.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import Metric, values
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Names the folder, for the client and for everything here."""

COOLING = "konstruct_llm_deployment_cooling"
"""1 while a deployment is left alone; a file holds until when, by the clock that all processes share."""


def shared_folder() -> Path | None:
    """Return the folder in which processes share their values; none: there is only this one."""
    folder = os.environ.get(FOLDER_VARIABLE)
    return Path(folder) if folder else None


def take_slot(slot: int) -> None:
    """Write to the files of `slot` from now on; to be called before any metric is made."""
    values.ValueClass = values.MultiProcessValue(lambda: slot)  # type: ignore[no-untyped-call]


def leave_slot(folder: Path, slot: int) -> None:
    """Forget what is true of a process only while it lives; what it has counted stays."""
    mark_process_dead(slot, str(folder))  # type: ignore[no-untyped-call]


class AllProcesses(Collector):
    """The metrics of every process that shares a folder."""

    def __init__(self, folder: Path) -> None:
        self._files = MultiProcessCollector(None, str(folder))  # type: ignore[no-untyped-call]

    def collect(self) -> Iterator[Metric]:
        """Yield every metric, added up as its kind asks for."""
        for family in self._files.collect():  # type: ignore[no-untyped-call]
            yield _cooling_now(family) if family.name == COOLING else family


def cooling_until(seconds: float) -> float:
    """Return what a file holds of a deployment that cools for `seconds` from now."""
    return time.monotonic() + seconds


def _cooling_now(until: Metric) -> Metric:
    """Say of each deployment whether it cools in any process."""
    now = time.monotonic()
    family = GaugeMetricFamily(COOLING, until.documentation, labels=["deployment"])
    for sample in until.samples:
        family.add_metric([sample.labels["deployment"]], float(sample.value > now))
    return family
