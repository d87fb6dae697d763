"""The log of a process: one line for each thing that happened, as JSON or for people.

Everything goes through here, what libraries log too. Whatever somebody said, a line stays one line: control
characters are escaped in both formats. ``docs/logs.md`` lists the lines that programs may rely on.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Any, TextIO

from shared.config import Settings
from shared.levels import LogFormat, LogLevel
from shared.logs.formats import ConsoleLines, Ids, JsonLines

__all__ = ["fields", "setup_logs"]

OWN = ("shared", "orchestrator", "llm_pool", "konstruct_operator", "konstruct_cli")
"""Konstruct's own loggers, the only ones that may say more than INFO."""

_LEVELS = {
    LogLevel.DEBUG: logging.DEBUG,
    LogLevel.INFO: logging.INFO,
    LogLevel.WARNING: logging.WARNING,
    LogLevel.ERROR: logging.ERROR,
}

_LOST = "a line of the log could not be made"
"""What is logged in its place."""

_log = logging.getLogger(__name__)


def fields(**values: Any) -> dict[str, Any]:
    """Return the ``extra`` of a log call that gives its line these fields."""
    return {"fields": values}


def setup_logs(settings: Settings, service: str, *, quiet: Iterable[str] = (), ids: Ids = dict) -> None:
    """Write this process's log to stderr, as the settings say.

    Args:
        settings: Format and level.
        service: What this process is called in its lines.
        quiet: Loggers of libraries whose INFO is not wanted.
        ids: Returns what each line says of the trace that it belongs to.
    """
    handler = _Handler(sys.stderr)
    if _wants_console(settings.log_format, sys.stderr):
        handler.setFormatter(ConsoleLines(ids, color=sys.stderr.isatty() and "NO_COLOR" not in os.environ))
    else:
        handler.setFormatter(JsonLines(service, ids))
    level = _LEVELS[settings.log_level]
    logging.basicConfig(level=max(level, logging.INFO), handlers=[handler], force=True)
    for name in OWN:
        logging.getLogger(name).setLevel(level)
    for name in quiet:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    logging.captureWarnings(capture=True)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread


def _wants_console(wanted: LogFormat, stream: TextIO) -> bool:
    return wanted is LogFormat.CONSOLE or (wanted is LogFormat.AUTO and stream.isatty())


class _Handler(logging.StreamHandler[TextIO]):
    """Writes lines. One that cannot be made is told of, without what it was made of."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is inherited
        """Replace the line; logging's own way is to print its arguments."""
        if record.msg == _LOST:
            return  # stderr is gone
        record.msg, record.args, record.exc_info = _LOST, None, None
        record.__dict__.update(fields(module=record.module, line=record.lineno))
        self.emit(record)


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, Exception):
        sys.__excepthook__(kind, error, trace)
        return
    _log.critical("the process ends: nobody caught an exception", exc_info=(kind, error, trace))


def _uncaught_in_thread(failure: threading.ExceptHookArgs) -> None:
    name = failure.thread.name if failure.thread is not None else None
    if failure.exc_value is not None:
        _log.critical(
            "a thread has ended: nobody caught an exception",
            exc_info=failure.exc_value,
            extra=fields(thread=name),
        )
