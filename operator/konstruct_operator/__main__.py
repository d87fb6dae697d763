"""The process: ``konstruct-operator``, or ``python -m konstruct_operator``."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys

import kopf

from konstruct_operator.claims import ServedError
from konstruct_operator.handlers import register
from konstruct_operator.kopf_setup import kopf_settings, register_login
from konstruct_operator.runtime import Runtime
from konstruct_operator.serving import serve
from shared.config import ConfigurationError, Settings, load_settings

EXIT_FAULT = 1
"""Exit status when a part of the operator has ended by itself."""

EXIT_USAGE = 2
"""Exit status when the configuration is not usable."""

EXIT_SERVED = 3
"""Exit status when another operator serves what this one should."""

log = logging.getLogger("konstruct_operator")


def run() -> None:
    """Serve until SIGTERM or SIGINT."""
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    logging.getLogger("kopf").setLevel(logging.WARNING)  # a line for each event of each Agent otherwise
    try:
        status = asyncio.run(operate(load_settings()))
    except ConfigurationError as error:
        status = _refuse(EXIT_USAGE, error)
    except ServedError as error:
        status = _refuse(EXIT_SERVED, error)
    sys.exit(status)


async def operate(settings: Settings) -> int:
    """Run the operator; returns its exit status.

    Raises:
        ConfigurationError: the settings cannot be used.
        ServedError: another operator serves what this one should.
    """
    runtime = Runtime(settings)
    http = await serve(settings.operator_listen, runtime.metrics, runtime.problem)
    try:
        await runtime.prepare()
        gc.freeze()  # what imports have left is never garbage
        return await _work(settings, runtime)
    finally:
        await runtime.close()
        await http.cleanup()


async def _work(settings: Settings, runtime: Runtime) -> int:
    registry = kopf.OperatorRegistry()
    register(registry, runtime, namespaces=not runtime.namespaces)
    register_login(registry, settings.kubeconfig)
    stop = asyncio.Event()
    watching = asyncio.create_task(
        kopf.operator(
            registry=registry,
            settings=kopf_settings(),
            standalone=True,
            clusterwide=not runtime.namespaces,
            namespaces=runtime.namespaces,
            stop_flag=stop,
        )
    )
    own = [asyncio.create_task(work, name=name) for name, work in runtime.tasks().items()]
    try:
        done, _ = await asyncio.wait([watching, *own], return_when=asyncio.FIRST_COMPLETED)
        ended = [task for task in done if task is not watching]
        for task in ended:
            log.error("%s has ended: %r", task.get_name(), task.exception())
        stop.set()
        try:
            await watching
        except Exception:
            log.exception("watching has ended")
            return EXIT_FAULT
        return EXIT_FAULT if ended else 0
    finally:
        for task in own:
            task.cancel()
        await asyncio.gather(*own, return_exceptions=True)


def _refuse(status: int, error: Exception) -> int:
    sys.stderr.write(f"konstruct-operator: {error}\n")
    return status


if __name__ == "__main__":
    run()
