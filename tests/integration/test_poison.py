"""Messages that no worker gets through, each in another way: counted, ended, and in nobody's way."""

from __future__ import annotations

import os
import signal
import time

import pytest

from konstruct_cli.stack.postgres import Postgres
from orchestrator.agents.catalog import Missing
from orchestrator.isolation import CannotStartError, Isolation, Outcome
from orchestrator.job import Job
from shared.models import MAX_TEXT, KonstructMessage
from shared.reply import Reply
from tests.support.waiting import eventually
from tests.support.worker import Cell, write_agent

NO_MESSAGE = "channel = 'No Channel!'"
"""What no KonstructMessage has: a row of another version, or that somebody has edited."""

NO_TIME = "sent_at = '10000-01-01'"
"""What PostgreSQL holds and Python does not."""

NO_CLAIM = "attempt = 2147483647"
"""What PostgreSQL refuses to claim: it cannot count on."""


def suspect(cell: Cell, *messages: KonstructMessage) -> None:
    """Let messages look as if two workers had died while they were under way."""
    for message in messages:
        cell.database.execute(f"update messages set deaths = 2 where message_id = '{message.message_id}'")


def spoil(cell: Cell, message: KonstructMessage, how: str) -> None:
    cell.database.execute(f"update messages set {how} where message_id = '{message.message_id}'")


def ends(cell: Cell, message: KonstructMessage, reason: str, within_s: float = 60) -> Reply:
    reply = cell.reply(message, within_s=within_s)
    assert (reply.status, reply.reason) == ("failed", reason)
    return reply


def test_a_message_whose_process_raises_is_given_up_and_its_thread_goes_on(cell: Cell) -> None:
    """Its conversation has a turn that no worker ever wrote: an answer that says nothing."""
    cell.start_worker()
    first, poison, after = (cell.message(text, thread_id="t") for text in ("hello", "poison", "after"))
    cell.submit(first)
    cell.reply(first)
    cell.workers[-1].stop()
    cell.database.rewrite("update messages set reply = null")
    cell.submit(poison, after)
    suspect(cell, poison)
    cell.start_worker()
    ends(cell, poison, "internal_error")
    cell.database.rewrite("update messages set reply = 'mended' where text = 'hello'")
    assert cell.reply(after).text == "You said: after"


@pytest.mark.parametrize("suspected", [False, True])
def test_rows_that_are_no_messages_any_more_end_and_hold_nobody_up(cell: Cell, suspected: bool) -> None:
    write_agent(cell.agents, "globex", "ada")
    no_message, no_time = cell.message("no message"), cell.message("no time")
    good = [cell.message("beside them"), cell.message("far away", tenant_id="globex")]
    cell.submit(no_message, no_time, *good)
    cell.broker.flushdb()  # so that they are read from PostgreSQL
    spoil(cell, no_message, NO_MESSAGE)
    spoil(cell, no_time, NO_TIME)
    if suspected:
        suspect(cell, no_message, no_time, *good)
    cell.start_worker()
    for message in good:
        assert cell.reply(message, within_s=20).text == f"You said: {message.text}"
    for message in (no_message, no_time):
        ends(cell, message, "message_invalid")


@pytest.mark.parametrize("suspected", [False, True])
def test_what_postgresql_refuses_to_claim_or_to_record_ends(cell: Cell, suspected: bool) -> None:
    cell.database.execute(
        "alter table messages add check (text <> 'no reply' or status not in ('answered', 'apologised'))"
    )
    no_claim, after = cell.message("no claim", thread_id="t"), cell.message("after", thread_id="t")
    no_reply = cell.message("no reply")
    cell.submit(no_claim, after, no_reply)
    spoil(cell, no_claim, NO_CLAIM)
    if suspected:
        suspect(cell, no_claim, no_reply)
    cell.start_worker()
    for message in (no_claim, no_reply):
        ends(cell, message, "internal_error")
    assert cell.reply(after).text == "You said: after"


def test_what_waits_for_its_agent_hides_nothing_behind_it(cell: Cell) -> None:
    """More suspects than one look sees, whose agent may be in what cannot be read."""
    nowhere = cell.agents / "nowhere.yaml"
    nowhere.symlink_to(nowhere)
    waiting = [cell.message(str(number), agent="not-yet") for number in range(120)]
    behind = cell.message("behind them")
    cell.submit(*waiting, behind)
    suspect(cell, *waiting, behind)
    cell.start_worker()
    assert cell.reply(behind).text == "You said: behind them"
    assert cell.database.rows("select sum(errors), sum(attempt) from messages where status = 'received'") == [
        (0, 0)
    ], "waiting for an agent is no fault of theirs"
    nowhere.unlink()
    ends(cell, waiting[0], "agent_unknown")


def test_without_postgresql_nothing_is_counted_against_a_suspect(own_cell: Cell, postgres: Postgres) -> None:
    own_cell.pool.gate.clear()
    message = own_cell.message("patient")
    own_cell.submit(message)
    suspect(own_cell, message)
    own_cell.start_worker()
    eventually(lambda: own_cell.pool.waiting == 1, what="its process asking the pool")
    postgres.stop()
    own_cell.pool.gate.set()
    eventually(lambda: "the database is away" in own_cell.logs() or "cannot be recorded" in own_cell.logs())
    postgres.start()
    assert own_cell.reply(message, within_s=90).text == "You said: patient"


def job(text: str = "hello") -> Job:
    values = {"tenant_id": "acme", "agent": "ada", "thread_id": "t", "sender": "sam", "text": text}
    return Job.of(KonstructMessage.model_validate(values), Missing.UNKNOWN, "quarantine-test", {})


def test_a_process_that_takes_nothing_in_is_ended_in_time(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its job does not fit into a pipe, so that writing it waits for a reader."""
    for name, value in cell.environment().items():
        monkeypatch.setenv(name, value)
    with Isolation() as isolation:
        os.kill(isolation.pid, signal.SIGSTOP)
        started = time.monotonic()
        assert isolation.answer(job("\N{SNOWMAN}" * MAX_TEXT), 2, lambda: False) is Outcome.DIED
        assert time.monotonic() - started < 10


def test_a_process_that_cannot_start_says_nothing_about_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KONSTRUCT_MESSAGE_DEADLINE_S", "soon")
    with pytest.raises(CannotStartError), Isolation() as isolation:
        isolation.answer(job(), 2, lambda: False)
