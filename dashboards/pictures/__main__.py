"""Draws the dashboards with what a Prometheus answers, as Grafana would show them.

    python -m dashboards.pictures --prometheus http://localhost:9090 --minutes 60

writes docs/images/dashboard-*.png. ``tests.observability.show`` runs everything that there is to see for it.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import httpx

from dashboards.pictures.answers import Asker
from dashboards.pictures.page import draw
from dashboards.queries import load_all
from tests.support.prometheus import Api

IMAGES = Path(__file__).parents[2] / "docs" / "images"
"""Where the documentation has its pictures."""


def main() -> None:
    """Draw every dashboard, or those that are named."""
    environ = os.environ
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prometheus", default=environ.get("PROMETHEUS_URL"), help="where it answers")
    parser.add_argument(
        "--start", type=float, default=environ.get("RUN_START"), help="seconds since the epoch"
    )
    parser.add_argument("--end", type=float, default=environ.get("RUN_END", time.time()), help="the same")
    parser.add_argument("--minutes", type=float, default=60, help="length, where there is no start")
    parser.add_argument("--scrape", type=float, default=30, help="seconds between two scrapes")
    parser.add_argument("--folder", type=Path, default=IMAGES, help="where the pictures go")
    parser.add_argument("names", nargs="*", help="which dashboards; all where none is named")
    given = parser.parse_args()
    if not given.prometheus:
        parser.error("--prometheus is missing")
    start = given.end - given.minutes * 60 if given.start is None else given.start
    given.folder.mkdir(parents=True, exist_ok=True)
    with httpx.Client(base_url=given.prometheus, timeout=60) as client:
        api = Api(lambda path, query: client.get(path, params=dict(query)).text)
        asker = Asker(api, start, given.end, scrape_s=given.scrape)
        for name, dashboard in load_all().items():
            if name in (given.names or load_all()):
                draw(dashboard, asker).save(given.folder / f"dashboard-{name}.png")


if __name__ == "__main__":
    main()
