"""A real worker with one more task, that does nothing: what Celery itself costs on this machine."""

from __future__ import annotations

from orchestrator.main import app
from orchestrator.worker import run


@app.task(name="bench.noop")
def noop(payload: object) -> object:
    return payload


if __name__ == "__main__":
    run()
