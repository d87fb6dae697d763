"""Writes the dashboards into the chart. Run it after changing one: ``python -m dashboards``."""

from __future__ import annotations

import json

from dashboards.agents import agents
from dashboards.board import as_json
from dashboards.overview import overview
from dashboards.providers import providers
from dashboards.queries import FILES
from dashboards.workers import workers


def files() -> dict[str, str]:
    """Make the content of each file."""
    made = {"overview": overview(), "providers": providers(), "agents": agents(), "workers": workers()}
    return {
        f"{name}.json": json.dumps(as_json(dashboard), indent=1, ensure_ascii=False) + "\n"
        for name, dashboard in made.items()
    }


if __name__ == "__main__":
    FILES.mkdir(parents=True, exist_ok=True)
    for name, content in files().items():
        (FILES / name).write_text(content)
