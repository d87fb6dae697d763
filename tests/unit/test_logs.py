"""The two formats of the log: what is in a line, and what can never be."""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import sys

import pytest

from shared.config import ConfigurationError, Settings
from shared.logs import fields
from shared.logs.exceptions import describe
from shared.logs.formats import ConsoleLines, JsonLines

HOSTILE = 'x\n{"event":"forged"}\r\x1b[2J\x00\x85\u2028\u202e"\\'


def no_ids() -> dict[str, str]:
    return {}


def written(formatter: logging.Formatter, message: object, *args: object, **how: object) -> str:
    """What one log call writes."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    log = logging.Logger("orchestrator.tests", logging.DEBUG)
    log.addHandler(handler)
    log.log(logging.WARNING, message, *args, **how)  # type: ignore[arg-type]
    return stream.getvalue()


def test_a_json_line_has_what_is_known_and_what_is_said() -> None:
    line = written(
        JsonLines("worker", lambda: {"trace_id": "ab", "span_id": "cd"}),
        "message %s", "done", extra=fields(status="answered", attempts=2, reason=None, degraded=True),
    )  # fmt: skip
    said = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", said.pop("timestamp"))
    assert said == {
        "level": "warning",
        "service": "worker",
        "logger": "orchestrator.tests",
        "event": "message done",
        "trace_id": "ab",
        "span_id": "cd",
        "status": "answered",
        "attempts": 2,
        "reason": None,
        "degraded": True,
    }


def test_a_console_line_is_for_people() -> None:
    line = written(
        ConsoleLines(no_ids, color=False),
        "message",
        extra=fields(status="answered", reason=None, seconds=0.25, note="two words"),
    )
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} WARNING orchestrator\.tests: message "
        r'status=answered seconds=0\.25 note="two words"\n',
        line,
    )


def test_a_terminal_sees_the_level_in_colour() -> None:
    assert "\x1b[33mWARNING\x1b[0m" in written(ConsoleLines(no_ids, color=True), "careful")


@pytest.mark.parametrize("formatter", [JsonLines("worker", no_ids), ConsoleLines(no_ids, color=False)])
def test_nothing_that_is_logged_begins_a_line(formatter: logging.Formatter) -> None:
    line = written(formatter, "said %s", HOSTILE, extra=fields(model=HOSTILE, deep=[HOSTILE]))
    assert line.isascii()
    assert line.endswith("\n")
    assert all(character.isprintable() for character in line[:-1])


def test_json_keeps_what_was_said() -> None:
    said = json.loads(written(JsonLines("worker", no_ids), "said %s", HOSTILE, extra=fields(model=HOSTILE)))
    assert (said["event"], said["model"]) == (f"said {HOSTILE}", HOSTILE)


class QuotingError(Exception):
    """As a library's, which quotes what it was given."""


QuotingError.__module__ = "some_library"


def quote() -> None:
    raise QuotingError("a-very-private-word")


def failure(words: str = "set the other one") -> BaseException:
    try:
        quote()
    except QuotingError as error:
        ours = ConfigurationError(words)
        ours.__cause__ = error
        return ours
    raise AssertionError


def test_an_exception_is_told_without_what_a_library_quotes() -> None:
    error = failure()
    told = describe(error).splitlines()
    assert told[0] == "some_library.QuotingError"
    assert re.fullmatch(r"  .*/test_logs\.py:\d+ in quote", told[2])
    assert told[3] == "shared.errors.ConfigurationError: set the other one"
    for formatter in (JsonLines("worker", no_ids), ConsoleLines(no_ids, color=False)):
        assert "a-very-private-word" not in written(formatter, "failed", exc_info=error)


def test_words_of_the_system_are_told() -> None:
    assert describe(ConnectionRefusedError(111, "Connection refused")) == (
        "ConnectionRefusedError: [Errno 111] Connection refused"
    )


def test_a_group_and_a_loop_of_exceptions_end() -> None:
    first, second = ValueError("private"), KeyError("private")
    first.__context__, second.__context__ = second, first
    told = describe(ExceptionGroup("private", [first, second]))
    assert sorted(told.splitlines()) == ["ExceptionGroup", "KeyError", "ValueError"]


def test_exceptions_are_indented_for_people() -> None:
    error = failure("one\n2026-01-01 00:00:00.000 ERROR forged: line")
    first, *rest = written(ConsoleLines(no_ids, color=False), "failed", exc_info=error).splitlines()
    assert first.endswith("failed")
    assert rest
    assert all(line.startswith("    ") for line in rest)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("postgresql://app:canary@db:5432/konstruct", "postgresql://app:***@db:5432/konstruct"),
        ("redis://:canary@redis:6379/0", "redis://:***@redis:6379/0"),
        ("Authorization: Bearer canary", "Authorization: Bearer ***"),
        ("see https://docs.example/page", "see https://docs.example/page"),
    ],
)
def test_passwords_in_addresses_are_hidden(said: str, told: str) -> None:
    assert json.loads(written(JsonLines("worker", no_ids), said))["event"] == told


PROGRAM = """
import logging, sys, threading, warnings
from shared.config import load_settings
from shared.logs import setup_logs
setup_logs(load_settings(), "worker", quiet=("chatty",))
logging.getLogger("orchestrator.x").debug("own detail")
logging.getLogger("library").debug("a library's detail")
logging.getLogger("library").info("a library's news")
logging.getLogger("chatty").info("not wanted")
logging.getLogger("orchestrator.x").info("%d", "a-very-private-word")
warnings.warn("mind this")
def work(): raise RuntimeError("a-very-private-word")
thread = threading.Thread(target=work, name="t1")
thread.start(); thread.join()
raise RuntimeError("a-very-private-word")
"""


def run(**environment: str) -> list[str]:
    """What a process that logs writes to stderr, line by line."""
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", PROGRAM],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "a-very-private-word" not in done.stderr
    return done.stderr.splitlines()


def test_everything_that_a_process_says_is_json_where_no_person_looks() -> None:
    lines = [json.loads(line) for line in run()]
    assert [line["event"].split("\n")[0] for line in lines if line["logger"] != "py.warnings"] == [
        "a library's news",
        "a line of the log could not be made",
        "a thread has ended: nobody caught an exception",
        "the process ends: nobody caught an exception",
    ]
    assert any("mind this" in line["event"] for line in lines)


def test_the_level_counts_for_our_own_loggers() -> None:
    debug = [json.loads(line)["event"] for line in run(KONSTRUCT_LOG_LEVEL="debug")]
    assert debug[:2] == ["own detail", "a library's news"]
    errors = [json.loads(line)["level"] for line in run(KONSTRUCT_LOG_LEVEL="error")]
    assert set(errors) == {"critical"}


def test_console_when_it_is_asked_for() -> None:
    assert "INFO    library: a library's news" in run(KONSTRUCT_LOG_FORMAT="console")[0]


def test_a_setting_that_is_no_format_is_refused() -> None:
    with pytest.raises(ValueError, match="log_format"):
        Settings.model_validate({"log_format": "xml"})
