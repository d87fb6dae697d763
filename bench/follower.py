"""A worker's part that follows the Agents, alone in a process: a line per edit that came into effect here."""

from __future__ import annotations

import signal
import sys
import time

from orchestrator.agents.catalog import AgentCatalog
from orchestrator.cluster.source import ClusterSource
from shared.config import load_settings


def main() -> None:
    """Follow until SIGTERM."""
    catalog = AgentCatalog()

    def in_effect(_lag_s: float) -> None:
        sys.stdout.write(f"{time.time():.6f} {len(catalog)}\n")
        sys.stdout.flush()

    source = ClusterSource(load_settings(), catalog, in_effect)
    source.start()
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    source.stop()


if __name__ == "__main__":
    main()
