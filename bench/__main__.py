"""Every benchmark, one after the other: two cores are few, and two at once would measure each other."""

from __future__ import annotations

import subprocess
import sys

BENCHMARKS = (
    "llm_pool",
    "handle_message",
    "fairness",
    "instrumentation",
    "scrape",
    "processes",
    "cluster",
    "config_map_volume",
)


def main() -> None:
    """Run each in a process of its own, so that none pays for what another imported."""
    for name in BENCHMARKS:
        print(f"== {name}", flush=True)
        subprocess.run([sys.executable, "-m", f"bench.{name}"], check=True)


if __name__ == "__main__":
    main()
