"""What ``konstruct status`` says of what waits: the numbers, what is wrong, and how it looks."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from konstruct_cli.commands.status import show
from konstruct_cli.live import line
from konstruct_cli.seen import BacklogStatus, PartStatus, PoolStatus, QueueStatus, StackStatus
from konstruct_cli.waiting import NEAR_LIMIT, SLOW_S, STUCK_S, Level, duration, judge, level_of
from orchestrator.asking import WorkerStatus

DOCS = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()

WORKER = WorkerStatus(
    worker="w", pid=1, in_flight=3, draining=False, watching=True, accepting=True, agents=[], problems=[]
)


def seen(
    messages: int | None = 0,
    line_: int | None = 0,
    wait: float | None = None,
    *,
    workers: tuple[WorkerStatus, ...] = (WORKER,),
    problem: str | None = None,
) -> StackStatus:
    return StackStatus(
        ok=True,
        source="here",
        postgres=PartStatus(ok=True),
        redis=QueueStatus(ok=True, waiting=0),
        llm_pool=PoolStatus(url="http://x", ok=True, ready=True),
        workers=list(workers),
        backlog=BacklogStatus(
            problem=problem, messages=messages, longest_line=line_, line_limit=10_000, longest_wait_s=wait
        ),
        in_flight=sum(each.in_flight for each in workers),
    )


DEAF = WORKER.model_copy(update={"accepting": False})

DRAINING = WORKER.model_copy(update={"draining": True})


@pytest.mark.parametrize(
    ("status", "level", "words"),
    [
        (seen(), Level.GOOD, []),
        (seen(8, 8, SLOW_S), Level.GOOD, []),
        (seen(9, 8, SLOW_S + 0.1), Level.ODD, ["slow: a message has waited for 5.1 s"]),
        (seen(9, 8, STUCK_S), Level.BAD, ["stuck: a message has waited for 2 min 0 s"]),
        (seen(8000, 7999, 1), Level.GOOD, []),
        (seen(8000, 8000, 1), Level.ODD, ["nearly full: 8000 messages of one tenant wait; from 10000 on"]),
        (seen(12_000, 10_000, 1), Level.BAD, ["full: 10000 messages of one tenant wait"]),
        (seen(1, 1, 1, workers=()), Level.BAD, ["no worker takes messages, and some wait"]),
        (seen(1, 1, 1, workers=(DEAF, DRAINING)), Level.BAD, ["no worker takes messages, and some wait"]),
        (seen(0, 0, workers=()), Level.GOOD, []),
        (seen(None, None, problem="cannot be counted"), Level.ODD, ["what waits cannot be counted"]),
    ],
)
def test_what_is_wrong_is_said_in_words_and_coloured(
    status: StackStatus, level: Level, words: list[str]
) -> None:
    found = list(judge(status))
    assert [each.words[: len(said)] for each, said in zip(found, words, strict=True)] == words
    assert level_of(status) is level
    told = _shown(status, terminal=True)
    colour = {Level.GOOD: "\x1b[32mok", Level.ODD: "\x1b[33m!", Level.BAD: "\x1b[31m--"}[level]
    assert re.search(re.escape(colour) + r" *\x1b\[0m *messages", told), told
    for said in words:
        assert said in _shown(status, terminal=False)
        assert said in line(status)


def test_the_numbers_are_told_for_people_and_in_one_line() -> None:
    status = seen(1200, 900, 250.0)
    for told in (_shown(status, terminal=False), line(status)):
        for fact in ("backlog 1200", "longest line 900 of 10000", "longest wait 4 min 10 s"):
            assert fact in told
    assert "3 in flight" in _shown(status, terminal=False)
    assert "in flight 3" in line(status)


def test_without_colours_the_words_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    status = seen(12_000, 10_000, STUCK_S, workers=())
    coloured = _shown(status, terminal=True)
    monkeypatch.setenv("NO_COLOR", "1")
    plain = _shown(status, terminal=True)
    assert "\x1b[3" in coloured
    assert "\x1b[3" not in plain
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == re.sub(r"\x1b\[[\d;]*m", "", plain)


def test_the_documentation_tells_from_where_on_what_is_told() -> None:
    (section,) = re.findall(r"^### What waits$(.*?)^###? ", DOCS, re.MULTILINE | re.DOTALL)
    rows = dict(re.findall(r"^\| (slow|stuck|nearly full|full): .*? \| (.*?) \|", section, re.MULTILINE))
    assert rows["slow"] == f"over {SLOW_S:g} s"
    assert rows["stuck"] == f"{STUCK_S:g} s or more"
    assert rows["nearly full"] == f"{NEAR_LIMIT:.0%} of `KONSTRUCT_TENANT_BACKLOG` or more"
    assert rows["full"] == "`KONSTRUCT_TENANT_BACKLOG` or more"


def test_a_version_that_knows_no_backlog_is_understood() -> None:
    told = seen().model_dump(mode="json")
    del told["backlog"], told["in_flight"]
    status = StackStatus.model_validate(told)
    assert status.backlog is None
    assert "backlog" not in line(status)
    assert "in flight" not in _shown(status, terminal=False)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (59.9, "59.9 s"), (61, "1 min 1 s"), (7_260, "2 h 1 min"), (180_000, "2 d 2 h")],
)
def test_durations_are_short(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def _shown(status: StackStatus, *, terminal: bool) -> str:
    out = io.StringIO()
    show(status, on=Console(file=out, force_terminal=terminal, width=200, color_system="standard"))
    return out.getvalue()
