"""The process: ``konstruct-operator``, or ``python -m konstruct_operator``."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Coroutine
from typing import Any

import kopf

from konstruct_operator.handlers import register, register_end
from konstruct_operator.kopf_setup import kopf_settings, quiet_kopf, register_login
from konstruct_operator.runtime import Runtime
from konstruct_operator.serving import serve
from shared.config import ConfigurationError, Settings, load_settings
from shared.logs import setup_logs

EXIT_FAULT = 1
"""Exit status when a part of the operator has ended by itself."""

EXIT_USAGE = 2
"""Exit status when the configuration is not usable."""

log = logging.getLogger("konstruct_operator")


def run() -> None:
    """Serve until SIGTERM or SIGINT."""
    try:
        settings = load_settings()
        # kopf has a line for each event of each Agent.
        setup_logs(settings, "operator", quiet=("kopf",))
        quiet_kopf()
        status = asyncio.run(operate(settings))
    except ConfigurationError as error:
        status = _refuse(EXIT_USAGE, error)
    sys.exit(status)


async def operate(settings: Settings) -> int:
    """Run the operator; returns its exit status.

    Raises:
        ConfigurationError: the settings cannot be used.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):  # kopf takes over when it starts
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    runtime = Runtime(settings)
    http = await serve(settings.operator_listen, runtime.metrics, runtime.problem, runtime.unready)
    try:
        if not await _done_before(stop, runtime.prepare()):
            return 0
        gc.freeze()  # what imports have left is never garbage
        return await _work(settings, runtime, stop)
    finally:
        await runtime.close()
        await http.cleanup()


async def _done_before(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do `work`, or as much of it as can be done before `stop` is set; returns whether it is all done."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not working.done():
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        return False
    await working
    return True


async def _work(settings: Settings, runtime: Runtime, stop: asyncio.Event) -> int:
    registry = kopf.OperatorRegistry()
    register(registry, runtime, namespaces=not runtime.namespaces)
    register_login(registry, settings.kubeconfig)
    own = [asyncio.create_task(work, name=name) for name, work in runtime.tasks().items()]
    failed: list[str] = []

    async def end() -> None:
        """Stop what works beside kopf before kopf stops it: it waits for tasks that it does not know."""
        stop.set()
        for task in own:
            task.cancel()
        await asyncio.gather(*own, return_exceptions=True)

    def one_has_ended(task: asyncio.Task[None]) -> None:
        if not stop.is_set():
            log.error(
                "%s has ended", task.get_name(), exc_info=None if task.cancelled() else task.exception()
            )
            failed.append(task.get_name())
            stop.set()

    for task in own:
        task.add_done_callback(one_has_ended)
    register_end(registry, end)
    try:
        await kopf.operator(
            registry=registry,
            settings=kopf_settings(),
            standalone=True,
            clusterwide=not runtime.namespaces,
            namespaces=runtime.namespaces,
            stop_flag=stop,
        )
    except Exception:
        log.exception("watching has ended")
        failed.append("watching")
    finally:
        await end()
    return EXIT_FAULT if failed else 0


def _refuse(status: int, error: Exception) -> int:
    sys.stderr.write(f"konstruct-operator: {error}\n")
    return status


if __name__ == "__main__":
    run()
