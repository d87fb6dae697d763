"""Errors that end a command, and the exit codes by which a script tells them apart."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """How the ``konstruct`` command ends; :data:`MEANINGS` says what each means."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_RUNNING = 3
    NOT_ANSWERED = 4
    NO_REPLY = 5
    INTERRUPTED = 130


MEANINGS = {
    ExitCode.OK: "Done; for send and chat: every message was answered.",
    ExitCode.FAILED: "Something that should have worked did not; the message says what.",
    ExitCode.USAGE: "The command line, a setting or a manifest is wrong; the message says what to change.",
    ExitCode.NOT_RUNNING: "No stack runs here, or a part of it cannot be reached.",
    ExitCode.NOT_ANSWERED: "A message ended without an answer: an apology, an unknown or suspended agent.",
    ExitCode.NO_REPLY: "No reply came in time; the message is recorded and may still be answered.",
    ExitCode.INTERRUPTED: "Ctrl-C ended the command (up, which Ctrl-C is meant to end, ends with 0).",
}
"""What each exit code means: shown by ``konstruct --help``; a test holds docs/cli.md to it."""


class CliError(Exception):
    """Ends a command; the message says what to do next."""

    code: ExitCode = ExitCode.FAILED


class UsageError(CliError):
    """What was asked for cannot be done as it was asked."""

    code = ExitCode.USAGE


class NotRunningError(CliError):
    """There is no stack to talk to, or a part of it does not answer."""

    code = ExitCode.NOT_RUNNING


class NoReplyError(CliError):
    """No reply came in time."""

    code = ExitCode.NO_REPLY
