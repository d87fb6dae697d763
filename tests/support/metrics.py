"""Reading what a process counts, as Prometheus would."""

from __future__ import annotations

import httpx

Samples = dict[str, float]
"""Values by series: the name, then the labels in alphabetical order, as they are exposed."""


def read(text: str) -> Samples:
    """Read the text format."""
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {series: float(value) for series, value in lines}


def scrape(url: str) -> Samples:
    """Ask a process for its metrics; `url` is its root."""
    return read(httpx.get(f"{url}/metrics", trust_env=False, timeout=10).raise_for_status().text)


def total(samples: Samples, name: str, **labels: str) -> float:
    """Sum the samples of a metric that have these labels."""
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    return sum(
        value
        for series, value in samples.items()
        if series.split("{")[0] == name and all(label in series for label in wanted)
    )
