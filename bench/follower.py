"""A worker's part that follows the Agents, alone in a process: a line per edit that came into effect here."""

from __future__ import annotations

import logging
import signal
import sys
import time

from orchestrator.agents.catalog import AgentCatalog
from orchestrator.cluster.source import ClusterSource
from shared.config import load_settings


def main() -> None:
    """Follow until SIGTERM."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    catalog = AgentCatalog()

    def in_effect(lag_s: float) -> None:
        sys.stdout.write(f"effect {time.time():.6f} {lag_s:.6f}\n")
        sys.stdout.flush()

    source = ClusterSource(load_settings(), catalog, in_effect)
    source.start()
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    source.stop()


if __name__ == "__main__":
    main()
