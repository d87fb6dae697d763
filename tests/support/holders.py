"""A process that holds every secret and does nothing with it: prints what each object says of itself.

``python -m tests.support.holders`` prints a JSON object: the kinds of our objects, and the words of each.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys

from llm_pool.main import create_app
from orchestrator.runtime import Runtime
from shared.config import load_settings
from shared.migrate import Login

OURS = ("shared", "orchestrator", "llm_pool", "konstruct_operator", "konstruct_cli")
"""Our packages."""


async def main() -> None:
    """Make the parts of a worker, and a pool that is ready to serve, and let everything tell of itself."""
    settings = load_settings()
    worker, pool = Runtime.build(settings), create_app(settings)
    async with pool.router.lifespan_context(pool):
        tell(worker, pool)


def tell(worker: Runtime, pool: object) -> None:
    """Print what there is."""
    login = Login.of(os.environ["KONSTRUCT_DATABASE_URL"])
    engines = [part for one in (worker.engine, worker.system_engine) for part in (one, one.url, one.pool)]
    gc.collect()
    found = [one for one in gc.get_objects() if str(type(one).__module__).partition(".")[0] in OURS]
    said = [f"{one!r} {one}" for one in (*found, *engines, login, pool)]
    kinds = sorted({type(one).__qualname__ for one in (*found, login)})
    sys.stdout.write(json.dumps({"kinds": kinds, "said": said}))
    sys.stdout.flush()
    os._exit(0)  # nothing was started that would have to be ended


if __name__ == "__main__":
    asyncio.run(main())
