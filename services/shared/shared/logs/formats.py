"""The two formats of a line. Neither lets what is logged begin a line of its own."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from shared.logs.exceptions import describe, without_quotation

Ids = Callable[[], Mapping[str, str]]
"""Returns the ids of the trace that what happens now belongs to; nothing when there is none."""

_SECRET = re.compile(r"(://[^\s/@:]*:)[^\s/@]+(?=@)|(\bbearer\s+)[^\s\"',]+", re.IGNORECASE)
"""A password in a URL, a token in a header: a library may quote how it tried to connect."""

_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Controls, line and paragraph separators, and what turns the direction of a terminal's text."""

_PLAIN = re.compile(r"[\w.:@/#+*-]+", re.ASCII)
"""A value that needs no quotes."""

_COLORS = {"WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[31m"}
"""Colour of a level on a terminal."""

_encode = json.JSONEncoder(default=str, separators=(",", ":")).encode


def _event(record: logging.LogRecord) -> str:
    text = record.getMessage()
    if record.exc_info and record.exc_info[1] is not None:
        text = without_quotation(text, record.exc_info[1])
    return _without_secrets(text)


def _without_secrets(text: str) -> str:
    if "://" in text or "earer" in text:
        return _SECRET.sub(lambda found: f"{found[1] or found[2]}***", text)
    return text


def _exception(record: logging.LogRecord) -> str | None:
    if not record.exc_info or record.exc_info[1] is None:
        return None
    return _without_secrets(describe(record.exc_info[1]))


class JsonLines(logging.Formatter):
    """One JSON object for each line: ``timestamp level service logger event``, then the line's fields."""

    def __init__(self, service: str, ids: Ids) -> None:
        super().__init__()
        self._service = service
        self._ids = ids

    def format(self, record: logging.LogRecord) -> str:
        """Write `record` as one line."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "timestamp": f"{seconds}.{int(record.created % 1 * 1_000_000):06d}Z",
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "event": _event(record),
            **self._ids(),
            **record.__dict__.get("fields", {}),
        }
        if (exception := _exception(record)) is not None:
            line["exception"] = exception
        return _encode(line)  # everything but ASCII is escaped


class ConsoleLines(logging.Formatter):
    """For people: local time, level, logger, event, then ``name=value``; exceptions indented below."""

    def __init__(self, ids: Ids, *, color: bool) -> None:
        super().__init__()
        self._ids = ids
        self._color = color

    def format(self, record: logging.LogRecord) -> str:
        """Write `record` as one line, and an exception as indented lines below it."""
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        level = f"{record.levelname:<7}"
        if self._color and record.levelname in _COLORS:
            level = f"{_COLORS[record.levelname]}{level}\x1b[0m"
        said = {**record.__dict__.get("fields", {}), **self._ids()}
        parts = [
            f"{moment}.{int(record.msecs):03d} {level} {record.name}: {_escaped(_event(record))}",
            *(f"{name}={_shown(value)}" for name, value in said.items() if value is not None),
        ]
        line = " ".join(parts)
        if (exception := _exception(record)) is not None:
            line += "".join(f"\n    {_escaped(part)}" for part in exception.split("\n"))
        return line


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else _encode(value)
    return text if _PLAIN.fullmatch(text) else f'"{_escaped(text)}"'


def _escaped(text: str) -> str:
    return _UNSAFE.sub(lambda found: ascii(found[0])[1:-1], text)
