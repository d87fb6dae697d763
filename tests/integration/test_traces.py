"""One message is one trace, from its sender to the provider, through every real part."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from orchestrator.recall import recall
from tests.support.canaries import LEAK, PROMPT, REPLIED, SAID, give_prompt
from tests.support.otlp import Collector, Span
from tests.support.providers import answer, status
from tests.support.traced import Way, way
from tests.support.waiting import eventually
from tests.support.worker import Cell

SUBMIT = "submit konstruct.messages"
HANDLE = "handle_message konstruct.messages"
ASK = "POST /complete"


@pytest.fixture
def traced(cell: Cell, collector: Collector) -> Iterator[Way]:
    with way(cell, **collector.environment()) as made:
        yield made


def served_by(collector: Collector, name: str, service: str) -> Span:
    """The one span of that name from that service."""
    found = [span for span in collector.wait_for(name) if span.service == service]
    assert len(found) == 1, found
    return found[0]


def test_a_degraded_answer_is_one_trace(traced: Way, collector: Collector) -> None:
    traced.start_worker()
    traced.anthropic.script.append(status(429, f'{{"error": {{"message": "{LEAK}"}}}}', retry_after="7"))
    traced.openai.script.append(status(500, LEAK))
    reply = traced.send("hello")
    assert (reply["status"], reply["served_group"], reply["degraded"]) == ("answered", "fast", True)
    submit = collector.wait_for(SUBMIT)[0]
    calls = [collector.wait_for(f"chat {model}")[0] for model in ("gpt-4o", "qwen3:8b")]
    failed = collector.wait_for("chat claude-sonnet-4-20250514")[0]
    handled = collector.wait_for(HANDLE)[0]
    eventually(lambda: len(collector.named(ASK)) == 2, what="both ends of the request to the pool")

    assert {span.trace_id for span in collector.spans} == {submit.trace_id}
    assert submit.parent_id == ""
    assert collector.chain(calls[1]) == [SUBMIT, HANDLE, ASK, ASK, "chat qwen3:8b"]
    assert [collector.chain(collector.named(name)[0]) for name in ("claim", "record")] == [
        [SUBMIT, HANDLE, "claim"],
        [SUBMIT, HANDLE, "record"],
    ]
    kinds = [(span.service, span.kind) for span in map(collector.parent, [calls[1]]) if span]
    assert kinds == [("konstruct-llm-pool", "server")]
    assert (submit.service, submit.kind) == ("konstruct-cli", "producer")
    assert (handled.service, handled.kind) == ("konstruct-worker", "consumer")

    assert failed.failed
    assert failed.attributes["error.type"] == "rate_limited"
    assert failed.attributes["http.response.status_code"] == 429
    assert calls[0].attributes["error.type"] == "unavailable"
    good = calls[1].attributes
    assert not calls[1].failed
    assert good["gen_ai.operation.name"] == "chat"
    assert good["gen_ai.provider.name"] == "ollama"
    assert (good["gen_ai.request.model"], good["gen_ai.response.model"]) == ("qwen3:8b", "qwen3:8b")
    assert (good["gen_ai.usage.input_tokens"], good["gen_ai.usage.output_tokens"]) == (11, 5)
    assert (good["konstruct.group"], good["konstruct.deployment"]) == ("fast", "ollama_chat/qwen3:8b")

    server = served_by(collector, ASK, "konstruct-llm-pool").attributes
    for facts in (handled.attributes, server):
        told = {
            "tenant_id": "acme",
            "agent": "ada",
            "message_id": reply["message_id"],
            "revision": reply["revision"],
            "requested_group": "quality",
            "served_group": "fast",
            "degraded": True,
            "fallback_reason": reply["fallback_reason"],
            "model": "qwen3:8b",
            "attempts": 3,
        }
        assert {name: facts.get(f"konstruct.{name}") for name in told} == told
    assert handled.attributes["konstruct.prompt_sha256"] == reply["prompt_sha256"]
    assert handled.attributes["messaging.message.id"] == reply["message_id"]
    assert handled.attributes["gen_ai.conversation.id"] == "talk"
    assert served_by(collector, ASK, "konstruct-worker").attributes["http.response.status_code"] == 200
    assert traced.cell.database.rows("select trace_id from messages") == [(submit.trace_id,)]
    evidence = recall("acme", reply["message_id"], on=traced.cell.engine)
    assert evidence is not None
    assert evidence.trace_id == submit.trace_id
    everything = b"".join(collector.bodies)
    assert LEAK.encode() not in everything
    assert b"hello" not in everything


def test_no_text_is_sent_unless_it_is_asked_for(cell: Cell, collector: Collector) -> None:
    with way(cell, **collector.environment()) as quiet:
        give_prompt(quiet)
        worker = quiet.start_worker()
        quiet.anthropic.default = answer(REPLIED)
        assert quiet.send(SAID)["text"] == REPLIED
        collector.wait_for(HANDLE)
        collector.wait_for("chat claude-sonnet-4-20250514")
        worker.stop()
    for text in (SAID, REPLIED, PROMPT):
        assert text.encode() not in b"".join(collector.bodies)
    collector.spans.clear()
    with way(cell, **collector.environment(KONSTRUCT_TRACING_CONTENT="true")) as open_:
        open_.start_worker()
        open_.anthropic.default = answer(REPLIED)
        open_.send(SAID)
        call = collector.wait_for("chat claude-sonnet-4-20250514")[0]
    assert PROMPT in call.attributes["gen_ai.system_instructions"]
    assert SAID in call.attributes["gen_ai.input.messages"]
    assert call.attributes["gen_ai.output.messages"] == (
        f'[{{"role":"assistant","parts":[{{"type":"text","content":"{REPLIED}"}}]}}]'
    )
    elsewhere = [span for span in collector.spans if not span.name.startswith("chat ")]
    assert SAID not in str(elsewhere)


def test_a_message_stays_in_its_trace_when_its_worker_dies(cell: Cell, collector: Collector) -> None:
    first = cell.start_worker(**collector.environment())
    cell.pool.gate.clear()
    message = cell.message("survive")
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    payload = message.model_dump(mode="json")
    cell.deliver(payload, traceparent=parent)
    eventually(lambda: cell.pool.waiting == 1, what="the worker asking the pool")
    os.kill(first.pid, signal.SIGKILL)
    cell.pool.gate.set()
    cell.start_worker(**collector.environment())
    cell.reply(message)
    handled = collector.wait_for(HANDLE)[-1]
    assert handled.trace_id == "0af7651916cd43dd8448eb211c80319c"
    assert cell.database.rows("select trace_id from messages") == [(handled.trace_id,)]
    assert [headers["traceparent"].split("-")[1] for headers in cell.pool.headers] == [handled.trace_id] * 2


def test_what_is_put_back_stays_in_its_trace(cell: Cell, collector: Collector) -> None:
    cell.start_worker(**collector.environment())
    cell.pool.gate.clear()
    first, second = (cell.message(text, thread_id="talk") for text in ("one", "two"))
    cell.deliver(first.model_dump(mode="json"))
    eventually(lambda: cell.pool.waiting == 1, what="the first message being answered")
    cell.deliver(second.model_dump(mode="json"))
    eventually(
        lambda: [span for span in collector.named(HANDLE) if "konstruct.returned" in span.attributes],
        what="the second being put back",
    )
    cell.pool.gate.set()
    cell.reply(second)
    of_second = eventually(
        lambda: (
            spans
            if (spans := _of(collector, second.message_id))[-1].attributes.get("konstruct.status")
            else []
        ),
        what="the second answered",
    )
    assert len(of_second) >= 2
    assert len({span.trace_id for span in of_second}) == 1
    assert not any(span.failed for span in of_second)
    assert of_second[0].trace_id != _of(collector, first.message_id)[0].trace_id


def _of(collector: Collector, message_id: str) -> list[Span]:
    return [span for span in collector.named(HANDLE) if span.attributes["messaging.message.id"] == message_id]


def test_headers_that_are_no_trace_do_no_harm(cell: Cell, collector: Collector) -> None:
    cell.start_worker(**collector.environment())
    for number, parent in enumerate(("nonsense", "00-" + "0" * 32 + "-b7ad6b7169203331-01", 7, ["00"], None)):
        message = cell.message(f"number {number}")
        payload = message.model_dump(mode="json")
        cell.deliver(payload, traceparent=parent, tracestate="a\r\nb")
        assert cell.reply(message).status == "answered"
    assert len({span.trace_id for span in collector.wait_for(HANDLE, 5)}) == 5


@pytest.mark.parametrize("flag", ["00", "01"])
def test_a_worker_without_tracing_passes_a_trace_on(cell: Cell, flag: str) -> None:
    cell.start_worker()
    message = cell.message("hello")
    parent = f"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flag}"
    payload = message.model_dump(mode="json")
    cell.deliver(payload, traceparent=parent)
    cell.reply(message)
    assert cell.pool.headers[-1]["traceparent"] == parent
    kept = "0af7651916cd43dd8448eb211c80319c" if flag == "01" else None
    assert cell.database.rows("select trace_id from messages") == [(kept,)]


def test_without_tracing_there_is_no_trace_anywhere(cell: Cell) -> None:
    cell.start_worker()
    message = cell.message("hello")
    cell.submit(message)
    cell.reply(message)
    assert "traceparent" not in cell.pool.headers[-1]
    assert cell.database.rows("select trace_id, traceparent from messages") == [(None, None)]


def test_the_ratio_decides_where_a_trace_begins(cell: Cell, collector: Collector) -> None:
    never = collector.environment(KONSTRUCT_TRACING_SAMPLE_RATIO="0")
    with way(cell, **never) as unsampled:
        unsampled.start_worker()
        unsampled.send("not kept")
        unsampled.pool.stop()
        unsampled.cell.workers[-1].stop()
    assert collector.spans == []
    assert cell.database.rows("select trace_id from messages") == [(None,)]
