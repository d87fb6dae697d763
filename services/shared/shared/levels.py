"""What the settings of the log may be."""

from __future__ import annotations

from enum import StrEnum


class LogFormat(StrEnum):
    """How a line of the log is written."""

    AUTO = "auto"
    """``console`` on a terminal, ``json`` elsewhere."""

    JSON = "json"
    """One JSON object for each line."""

    CONSOLE = "console"
    """For people."""


class LogLevel(StrEnum):
    """The least that is logged."""

    DEBUG = "debug"
    """Konstruct's own details; libraries stay at ``info``, for theirs may quote what was said."""

    INFO = "info"
    """A line for each message and each completion, and what happens to the process."""

    WARNING = "warning"
    """What somebody may have to look at."""

    ERROR = "error"
    """What somebody must look at."""
