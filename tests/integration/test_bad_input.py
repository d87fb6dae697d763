"""Bad input to a real worker: a clear answer, recorded, and nothing retried for ever."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.main import app
from shared.models import MAX_TEXT
from tests.support.pool import envelope
from tests.support.waiting import eventually
from tests.support.worker import Cell, write_agent


@pytest.fixture
def working(cell: Cell) -> Cell:
    write_agent(cell.agents, "acme", "sleepy", more="suspended: true")
    cell.start_worker()
    return cell


def result(cell: Cell, payload: Any) -> dict[str, Any]:
    found: dict[str, Any] = app.AsyncResult(cell.deliver(payload)).get(timeout=30)
    return found


def test_everything_that_is_wrong_is_answered_and_recorded(working: Cell) -> None:
    """One worker takes all of it: what one message breaks, the next would show."""
    cell = working
    good = cell.message("hello").model_dump(mode="json")
    cases: list[tuple[str, Any, str, str]] = [
        ("unknown agent", {"agent": "nobody"}, "agent_unknown", "no agent by that name"),
        ("another tenant's agent", {"tenant_id": "globex"}, "agent_unknown", "no agent by that name"),
        ("suspended agent", {"agent": "sleepy"}, "agent_suspended", "switched off"),
        ("empty text", {"text": ""}, "message_invalid", "text: String should have at least 1 character"),
        ("blank text", {"text": " \n "}, "message_invalid", "text: the text is empty; write something"),
        ("huge text", {"text": "x" * (MAX_TEXT + 1)}, "message_invalid", "at most 32768 characters"),
        ("a NUL", {"text": "a\x00b"}, "message_invalid", "NUL"),
        ("text of another type", {"text": 7}, "message_invalid", "text: Input should be a valid string"),
        ("no text", {"text": None}, "message_invalid", "text: Input should be a valid string"),
        ("unknown field", {"novelty": 1}, "message_invalid", "novelty: no such field"),
        ("bad agent name", {"agent": "Ada!"}, "message_invalid", "agent: has a form"),
        ("bad thread", {"thread_id": "a\nb"}, "message_invalid", "thread_id: has a form"),
        ("no time zone", {"sent_at": "2026-01-01T00:00:00"}, "message_invalid", "sent_at"),
        ("a list for a sender", {"sender": ["sam"]}, "message_invalid", "sender"),
    ]
    for number, (name, change, reason, words) in enumerate(cases):
        payload = {**good, "message_id": f"m-{number}", "thread_id": f"t-{number}", **change}
        reply = result(cell, payload)
        assert (reply["status"], reply["reason"]) == ("failed", reason), name
        assert words in reply["text"], name
        recorded = cell.database.rows(
            "select status, reason, reply from messages where message_id = %s", f"m-{number}"
        )
        assert recorded == [("failed", reason, reply["text"])], name
    assert cell.pool.requests == []
    assert eventually(cell.settled)
    assert cell.database.rows("select max(attempt) from messages") == [(1,)]


@pytest.mark.parametrize(
    "payload", [None, 7, "text", [], {}, {"tenant_id": "../x", "message_id": "m"}, {"a": {"b": []}}]
)
def test_what_is_nobodys_is_refused(working: Cell, payload: Any) -> None:
    reply = result(working, payload)
    assert (reply["status"], reply["reason"]) == ("failed", "message_invalid")
    assert working.database.rows("select count(*) from messages") == [(0,)]
    assert eventually(working.settled)


def test_a_bad_copy_cannot_spoil_a_good_message(working: Cell) -> None:
    cell = working
    cell.pool.gate.clear()
    good = cell.message("hello", message_id="m-1")
    cell.submit(good)
    eventually(lambda: cell.pool.waiting == 1)
    assert result(cell, {**good.model_dump(mode="json"), "text": ""})["reason"] == "message_invalid"
    cell.pool.gate.set()
    assert cell.reply(good).status == "answered"


def test_an_unknown_group_is_an_apology(working: Cell) -> None:
    cell = working
    problem = b'{"type":"urn:x","title":"t","status":404,"detail":"d","code":"unknown_group"}'
    cell.pool.answer = lambda _, exchange: exchange.send(404, problem, "application/problem+json")
    message = cell.message("hello")
    cell.submit(message)
    reply = cell.reply(message)
    assert (reply.status, reply.reason) == ("apologised", "group_unknown")
    assert "sorry" in reply.text
    assert reply.revision
    assert reply.model is None


def test_refuse_is_asked_for_and_told(working: Cell) -> None:
    cell = working
    write_agent(cell.agents, "acme", "proud", more="onFallback: refuse")
    problem = (
        b'{"type":"urn:x","title":"t","status":503,"detail":"d","code":"fallback_refused",'
        b'"fallback_reason":"rate_limited"}'
    )
    cell.pool.answer = lambda _, exchange: exchange.send(503, problem, "application/problem+json")
    eventually(lambda: cell.revisions("proud"))
    message = cell.message("hello", agent="proud")
    cell.submit(message)
    reply = cell.reply(message)
    assert (reply.status, reply.reason, reply.fallback_reason) == (
        "apologised", "fallback_refused", "rate_limited"
    )  # fmt: skip
    assert [request.fallback for request in cell.pool.requests] == ["refuse"]


def test_disclose_appends_a_fixed_sentence_to_a_degraded_reply(working: Cell) -> None:
    cell = working
    write_agent(cell.agents, "acme", "frank", more="onFallback: disclose")
    degraded = {"served_group": "fast", "degraded": True, "fallback_reason": "not_configured"}
    cell.pool.answer = lambda _, exchange: exchange.send(
        200, json.dumps(envelope("Hi.", **degraded)).encode()
    )
    ada, frank = cell.message("hello"), cell.message("hello", agent="frank")
    eventually(lambda: cell.revisions("frank"))
    cell.submit(ada)
    assert cell.reply(ada).text == "Hi."
    cell.submit(frank)
    reply = cell.reply(frank)
    assert reply.text.startswith("Hi.\n\n(This reply was written by a substitute model")
    assert (reply.degraded, reply.served_group, reply.fallback_reason) == (True, "fast", "not_configured")


def test_a_pool_that_is_away_is_an_apology(cell: Cell) -> None:
    cell.start_worker(KONSTRUCT_LLM_POOL_URL="http://127.0.0.1:1", KONSTRUCT_MESSAGE_DEADLINE_S="4")
    message = cell.message("hello")
    cell.submit(message)
    reply = cell.reply(message)
    assert (reply.status, reply.reason) == ("apologised", "pool_unreachable")
    metrics = cell.database.rows("select attempt, status from messages")
    assert metrics == [(1, "apologised")]
    assert eventually(cell.settled)


def test_a_pool_that_hangs_is_an_apology_within_the_deadline(cell: Cell) -> None:
    cell.start_worker(KONSTRUCT_MESSAGE_DEADLINE_S="1.5")
    cell.pool.gate.clear()
    message = cell.message("hello")
    cell.submit(message)
    reply = cell.reply(message, within_s=15)
    assert (reply.status, reply.reason) == ("apologised", "deadline_exceeded")


def test_an_edited_persona_is_live_without_a_restart(working: Cell) -> None:
    cell = working
    before, after = cell.message("hello"), cell.message("hello")
    cell.submit(before)
    first = cell.reply(before)
    write_agent(cell.agents, "acme", "ada", prompt="Answer in French.")
    eventually(lambda: cell.revisions() not in ([], [first.revision]))
    cell.submit(after)
    second = cell.reply(after)
    assert first.revision != second.revision
    assert "French" in cell.pool.requests[-1].messages[0].content
    assert len(cell.workers) == 1
    assert cell.workers[0].exit_code() is None
