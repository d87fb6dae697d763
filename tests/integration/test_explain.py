"""Explaining a message: through real workers, a real database and its row level security."""

from __future__ import annotations

import json
import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from orchestrator.asking import worker_status
from orchestrator.evidence import Evidence, Verdict, WaitsFor
from orchestrator.main import app
from orchestrator.recall import recall
from shared.contract import Problem, ProblemCode
from shared.models import KonstructMessage
from shared.prompt import TRANSPARENCY_CLAUSE_VERSION
from shared.reply import MessageStatus, Reply
from tests.support.pool import Exchange, StubPool, envelope
from tests.support.stack_command import Result, konstruct
from tests.support.waiting import eventually
from tests.support.worker import Cell, write_agent

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "schemas" / "konstruct-evidence.json").read_text())

ZEROS = "prompt_sha256 = repeat('0', 64)"

OLD_CLAUSE = "transparency_clause = '0'"


def explain(cell: Cell, *arguments: str, tenant: str = "acme", **more: str) -> Result:
    env = cell.environment(**more)
    return konstruct("explain", "--tenant", tenant, *arguments, cwd=cell.folder, env=env)


def evidence(cell: Cell, message: KonstructMessage, **asked: Any) -> Evidence:
    found = recall(message.tenant_id, message.message_id, on=cell.engine, **asked)
    assert found is not None
    return found


def answered(cell: Cell, text: str = "hello", **changes: Any) -> tuple[KonstructMessage, Reply]:
    message = cell.message(text, **changes)
    cell.submit(message)
    return message, cell.reply(message)


def speaks_anew(cell: Cell, spoken: set[str | None]) -> bool:
    return any(revision not in spoken for revision in cell.revisions())


def calls(*outcomes: tuple[str, str, str]) -> list[dict[str, Any]]:
    return [{"deployment": name, "group": group, "outcome": how, "ms": 1.5} for name, group, how in outcomes]


def degraded(_: StubPool, exchange: Exchange) -> None:
    attempts = calls(("a/one", "quality", "rate_limited"), ("o/two", "fast", "ok"))
    changes = {"served_group": "fast", "degraded": True, "fallback_reason": "rate_limited"}
    body = envelope("From fast.", **changes, attempts=attempts, model="two-1", cost_usd=None)
    exchange.send(200, json.dumps(body).encode())


def failing(_: StubPool, exchange: Exchange) -> None:
    problem = Problem.model_validate(
        {
            "type": "urn:konstruct:problem:providers_failed",
            "title": "Every provider failed",
            "status": 503,
            "detail": "none answered",
            "code": ProblemCode.PROVIDERS_FAILED,
            "requested_group": "quality",
            "fallback_reason": "timeout",
            "attempts": calls(("a/one", "quality", "timeout"), ("o/two", "fast", "unavailable")),
        }
    )
    exchange.send(503, problem.model_dump_json().encode(), "application/problem+json")


def test_an_answer_is_explained_in_json_and_in_words(cell: Cell) -> None:
    cell.start_worker()
    message, reply = answered(cell, "a secret \x1b[2J", channel="cli")
    result = explain(cell, "--json", message.message_id)
    assert (result.code, result.err) == (0, "")
    told = json.loads(result.out)
    jsonschema.validate(told, SCHEMA)
    spoken = reply.model_dump(mode="json", exclude={"text"})
    assert spoken.items() <= {**told}.items()
    assert (told["channel"], told["sender"], told["claims"], told["deaths"]) == ("cli", "sam", 1, 0)
    assert (told["cost_usd"], told["pool_latency_ms"], told["waiting"]) == (0.0001, 2.0, None)
    assert told["attempts"] == calls(("stub/stub-1", "quality", "ok"))
    times = told["times"]
    assert times["sent_at"] <= times["received_at"] == times["queued_at"] <= times["started_at"]
    assert times["started_at"] < times["finished_at"]
    assert times["queue_s"] >= 0
    assert times["answer_s"] > 0
    assert told["proof"]["verdict"] == "proved"
    assert told["proof"]["prompt"] == cell.pool.requests[0].messages[0].content, "what the model was given"
    assert told["proof"]["prompt_sha256"] == told["prompt_sha256"] == told["documents"]["prompt_sha256"]
    assert told["documents"]["revision"] == reply.revision
    assert (told["text"], told["reply"]) == (None, None)

    assert told["trace_id"] is None
    cell.database.rewrite("update messages set trace_id = '0af7651916cd43dd8448eb211c80319c'")
    people = explain(cell, message.message_id)
    assert people.code == 0
    for words in (
        "trace 0af7651916cd43dd8448eb211c80319c",
        f"agent ada, revision {reply.revision}",
        "answered by stub-1 (group quality)",
        "1. stub/stub-1 (quality): ok, 2 ms",
        "7 read, 3 written",
        "0.000100 US dollars",
        f"sha256 {reply.prompt_sha256}",
        "proved: the documents hash to the revision",
        "--- persona document ---",
    ):
        assert words in " ".join(people.out.split()), words
    assert told["documents"]["persona_json"] in people.out + "\n"
    assert "secret" not in people.out
    with_texts = explain(cell, "--text", message.message_id)
    assert "--- message ---\na secret [2J\n" in with_texts.out
    assert "--- reply ---\nYou said: a secret" in with_texts.out


def test_a_degraded_answer_names_every_call_and_why(cell: Cell) -> None:
    cell.pool.answer = degraded
    cell.start_worker()
    message, _ = answered(cell)
    found = evidence(cell, message, texts=True)
    assert (found.requested_group, found.served_group, found.degraded) == ("quality", "fast", True)
    assert (found.fallback_reason, found.model, found.cost_usd) == ("rate_limited", "two-1", None)
    assert [(call.deployment, call.outcome) for call in found.attempts] == [
        ("a/one", "rate_limited"),
        ("o/two", "ok"),
    ]
    assert (found.text, found.reply) == ("hello", "From fast.")
    people = explain(cell, message.message_id).out
    assert "quality, which could not answer: rate_limited; degraded" in people
    assert "2. o/two (fast): ok" in people


def test_an_apology_names_the_calls_that_failed(cell: Cell) -> None:
    cell.pool.answer = failing
    cell.start_worker()
    message, _ = answered(cell)
    found = evidence(cell, message)
    assert (found.status, found.reason) == ("apologised", "providers_failed")
    assert (found.fallback_reason, found.model, found.usage) == ("timeout", None, None)
    assert [call.outcome for call in found.attempts] == ["timeout", "unavailable"]
    assert found.proof.verdict is Verdict.PROVED, "the prompt that was sent is known"
    people = explain(cell, message.message_id)
    assert people.code == 0
    assert "apologised (providers_failed)" in people.out


def test_a_message_that_no_model_was_asked_about_has_no_prompt(cell: Cell) -> None:
    cell.start_worker()
    message, _ = answered(cell, agent="eve")
    result = explain(cell, "--json", message.message_id)
    told = json.loads(result.out)
    assert (result.code, told["status"], told["reason"]) == (0, "failed", "agent_unknown")
    assert (told["revision"], told["documents"], told["attempts"]) == (None, None, [])
    assert told["proof"]["verdict"] == "no_prompt"
    assert "no model was asked, so there is no prompt" in explain(cell, message.message_id).out


def test_the_documents_stay_when_the_agent_is_edited_and_deleted(cell: Cell) -> None:
    cell.start_worker()
    said: list[tuple[str, KonstructMessage, Reply]] = []
    path = cell.agents
    for prompt in ("Answer briefly.", "Answer in verse.", "Answer never."):
        path = write_agent(cell.agents, "acme", "ada", prompt=prompt)
        spoken = {reply.revision for _, _, reply in said}
        eventually(partial(speaks_anew, cell, spoken), what="the edit in effect")
        said.append((prompt, *answered(cell)))
    path.unlink()
    eventually(lambda: not cell.revisions(), what="the agent's end")
    assert answered(cell)[1].reason == "agent_unknown"
    assert len({reply.revision for _, _, reply in said}) == 3
    for prompt, message, reply in said:
        found = evidence(cell, message)
        assert found.proof.verdict is Verdict.PROVED
        assert found.documents is not None
        assert found.documents.revision == reply.revision
        assert prompt in found.documents.persona_json
        assert (found.proof.prompt or "").startswith(prompt)


def test_an_unfinished_message_says_what_it_waits_for(cell: Cell) -> None:
    first, second = (cell.message(text, thread_id="talk") for text in ("one", "two"))
    cell.submit(first, second)
    waiting = evidence(cell, first).waiting
    assert waiting is not None
    assert (waiting.waits_for, waiting.ahead, waiting.owner) == (WaitsFor.WORKER, 0, None)
    told = explain(cell, first.message_id)
    assert told.code == 0
    assert "a worker to take it from the queue; `konstruct status`" in told.out
    assert "no_prompt: no prompt is recorded yet" in told.out

    cell.database.execute("update messages set queued_at = null")
    assert "waits for   its turn to be queued" in explain(cell, first.message_id).out
    cell.database.execute("update messages set queued_at = now()")

    cell.pool.gate.clear()
    worker = cell.start_worker()
    eventually(lambda: cell.pool.waiting == 1, what="the first being answered")
    (owner,) = [status.worker for status in worker_status(app)]
    waiting = evidence(cell, first).waiting
    assert waiting is not None
    assert (waiting.waits_for, waiting.owner) == (WaitsFor.MODEL, owner)
    waiting = evidence(cell, second).waiting
    assert waiting is not None
    assert (waiting.waits_for, waiting.ahead) == (WaitsFor.EARLIER_MESSAGES, 1)
    assert waiting.first_ahead == first.message_id
    assert f"konstruct explain --tenant acme {first.message_id}" in explain(cell, second.message_id).out

    os.kill(worker.pid, signal.SIGKILL)
    silent = eventually(
        lambda: (
            (now := evidence(cell, first).waiting) is not None
            and now.waits_for is WaitsFor.SILENT_WORKER
            and now
        ),
        what="the lease running out",
    )
    assert silent
    assert silent.owner == owner
    told = explain(cell, "--json", first.message_id)
    jsonschema.validate(json.loads(told.out), SCHEMA)
    assert json.loads(told.out)["status"] == MessageStatus.RECEIVED
    assert "is silent, and its lease ran out at" in explain(cell, first.message_id).out


def test_another_tenants_message_is_as_one_that_never_was(cell: Cell) -> None:
    cell.start_worker()
    message, _ = answered(cell, message_id="m-1")
    theirs = explain(cell, "m-1", tenant="globex")
    never = explain(cell, "m-2", tenant="globex")
    assert (theirs.code, theirs.out) == (never.code, never.out) == (2, "")
    assert theirs.err.replace("m-1", "m-2") == never.err
    assert "tenant globex has no message m-2" in never.err
    assert recall("globex", message.message_id, on=cell.engine) is None


def test_a_database_that_is_away_is_code_3(cell: Cell) -> None:
    result = explain(cell, "m-1", KONSTRUCT_DATABASE_URL="postgresql://a:b@127.0.0.1:1/k")
    assert result.code == 3
    assert "PostgreSQL of the environment (KONSTRUCT_DATABASE_URL) does not answer" in result.err


@pytest.mark.parametrize(
    ("change", "verdict", "code", "words"),
    [
        (
            "update agent_revisions set persona_json = replace(persona_json, 'briefly', 'at length')",
            Verdict.DOCUMENTS_DIFFER,
            1,
            "one of them was altered",
        ),
        ("delete from agent_revisions", Verdict.DOCUMENTS_MISSING, 1, "no documents are kept"),
        (
            f"update messages set {ZEROS}",
            Verdict.PROMPT_DIFFERS,
            1,
            "workers of two versions answered from this revision, or a record was altered",
        ),
        (
            f"update messages set {ZEROS}; update agent_revisions set {ZEROS}",
            Verdict.PROMPT_DIFFERS,
            1,
            "built prompts in another way than this version does",
        ),
        (
            f"update messages set {OLD_CLAUSE}, {ZEROS}; update agent_revisions set {OLD_CLAUSE}, {ZEROS}",
            Verdict.OTHER_CLAUSE,
            0,
            f"had clause 0; installed here is {TRANSPARENCY_CLAUSE_VERSION}",
        ),
    ],
)
def test_the_verdict_says_what_the_records_prove_and_no_more(
    cell: Cell, change: str, verdict: Verdict, code: int, words: str
) -> None:
    cell.start_worker()
    message, _ = answered(cell)
    cell.database.rewrite(change)
    assert evidence(cell, message).proof.verdict is verdict
    result = explain(cell, message.message_id)
    assert result.code == code
    assert words in " ".join(result.out.split())
