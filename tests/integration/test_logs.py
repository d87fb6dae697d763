"""What pool and worker log of a message: who, which, how it ended; never what was said, never a secret."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

import pytest

from konstruct_cli.stack.process import claim_port
from orchestrator.main import QUEUE, app
from tests.support.database import SERVICE, SYSTEM
from tests.support.otlp import Collector
from tests.support.providers import answer, status
from tests.support.providers_pool import CANARIES
from tests.support.stack_command import environment, konstruct
from tests.support.traced import POOL_TOKEN, Way, way
from tests.support.waiting import eventually
from tests.support.worker import Cell

SAID = "a-very-private-question"
REPLIED = "a-very-private-answer"
PROMPT = "a-very-private-instruction"
LEAK = "sk-canary-in-a-providers-error"
SECRETS = (*CANARIES, POOL_TOKEN, SERVICE.password, SYSTEM.password, LEAK)


def lines(text: str) -> list[dict[str, Any]]:
    """The log, parsed: every line of it is one JSON object."""
    parsed = [json.loads(line) for line in text.splitlines()]
    assert all({"timestamp", "level", "service", "logger", "event"} <= line.keys() for line in parsed)
    return parsed


def the_one(text: str, event: str, **facts: object) -> dict[str, Any]:
    (found,) = [line for line in lines(text) if line["event"] == event and facts.items() <= line.items()]
    return found


def say_everything(way: Way) -> None:
    """Send what a careless log would repeat: texts, failures that quote, deliveries that are no messages."""
    way.anthropic.script.append(status(401, json.dumps({"error": {"message": f"{LEAK} {SAID}"}})))
    way.openai.script.append(status(500, f"{LEAK} {SAID}"))
    way.ollama.default = answer(REPLIED)
    assert way.send(SAID)["text"] == REPLIED
    cell = way.cell
    app.send_task("orchestrator.tasks.unheard_of", args=({"text": SAID},))
    cell.deliver({"text": SAID, "tenant_id": f"acme\n{SAID}", "message_id": f"{SAID}\n"})
    cell.deliver([SAID])
    cell.broker.lpush(QUEUE, json.dumps(_undecodable(SAID)))
    last = cell.message("the last of them")
    cell.submit(last)
    cell.reply(last)
    eventually(
        lambda: (
            len([line for line in lines(cell.logs()) if line["event"] == "message"]) == 4
            and cell.logs().count("a delivery that is no message was thrown away") == 2
        ),
        what="a line for each of them",
    )


def _undecodable(text: str) -> dict[str, Any]:
    properties = {"delivery_info": {"exchange": "", "routing_key": QUEUE}, "delivery_tag": "t-1"}
    headers = {"task": "orchestrator.tasks.handle_message", "id": "1", "lang": "py"}
    return {
        "body": f"{{{text}",
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": headers,
        "properties": properties,
    }


@pytest.mark.parametrize("level", ["info", "debug"])
def test_a_line_for_each_message_and_completion_and_nothing_that_was_said(cell: Cell, level: str) -> None:
    path = cell.agents / "acme-ada.yaml"
    path.write_text(path.read_text().replace("Answer briefly.", PROMPT))
    with way(cell, KONSTRUCT_LOG_LEVEL=level) as made:
        made.start_worker()
        say_everything(made)
        text = made.logs()
        pool_text = made.pool.log.read_text()
    for words in (SAID, REPLIED, PROMPT, *SECRETS):
        assert words not in text

    (row,) = cell.database.rows("select message_id, revision from messages where thread_id = 'talk'")
    common = {
        "message_id": row[0],
        "revision": row[1],
        "tenant_id": "acme",
        "agent": "ada",
        "requested_group": "quality",
        "served_group": "fast",
        "model": "qwen3:8b",
        "degraded": True,
        "attempts": 3,
        "prompt_tokens": 11,
        "completion_tokens": 5,
    }
    message = the_one(cell.logs(), "message", message_id=row[0])
    assert message == message | {**common, "level": "info", "service": "worker", "status": "answered"}
    assert message == message | {"thread_id": "talk", "reason": None, "claims": 1}
    assert message["seconds"] > 0
    assert message["queue_seconds"] >= 0
    assert "trace_id" not in message
    completion = the_one(pool_text, "completion", message_id=row[0])
    assert completion == completion | {**common, "level": "info", "service": "llm-pool", "outcome": "ok"}
    failed = [line for line in lines(pool_text) if line["event"] == "call failed"]
    assert {(line["reason"], line["status"]) for line in failed} >= {("auth", 401), ("unavailable", 500)}


def test_messages_that_are_not_answered_have_a_line_with_the_reason(cell: Cell) -> None:
    with way(cell) as made:
        made.start_worker()
        for provider in (made.anthropic, made.openai, made.ollama):
            provider.default = status(500)
        message, lost = cell.message("hello"), cell.message("hello", agent="nobody")
        cell.submit(message, lost)
        cell.reply(message)
        cell.reply(lost)
        eventually(lambda: cell.logs().count('"event":"message"') == 2, what="both lines")
        told = the_one(cell.logs(), "message", message_id=message.message_id)
        assert (told["level"], told["status"], told["reason"]) == (
            "warning",
            "apologised",
            "providers_failed",
        )
        assert (told["attempts"], told["fallback_reason"]) == (3, "unavailable")
        unknown = the_one(cell.logs(), "message", message_id=lost.message_id)
        assert (unknown["status"], unknown["reason"]) == ("failed", "agent_unknown")
        completion = the_one(made.pool.log.read_text(), "completion", message_id=message.message_id)
        assert (completion["level"], completion["outcome"]) == ("warning", "providers_failed")


def test_lines_of_a_trace_name_it(cell: Cell, collector: Collector) -> None:
    with way(cell, **collector.environment()) as made:
        made.start_worker()
        made.send("hello")
        pool_text = made.pool.log.read_text()
    trace_id = collector.wait_for("submit konstruct.messages")[0].trace_id
    eventually(lambda: '"event":"message"' in cell.logs(), what="the line")
    assert the_one(cell.logs(), "message")["trace_id"] == trace_id
    assert the_one(pool_text, "completion")["trace_id"] == trace_id


@pytest.mark.parametrize("fault", ["refused", "failing"])
def test_a_collector_that_is_away_costs_one_line(cell: Cell, collector: Collector, fault: str) -> None:
    there = collector.environment(OTEL_EXPORTER_OTLP_TIMEOUT="1")
    if fault == "refused":
        there["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://user:canary-secret@127.0.0.1:{claim_port('', None)}"
    else:
        collector.status = 503
    worker = cell.start_worker(**there)
    messages = [cell.message(f"number {number}") for number in range(20)]
    cell.submit(*messages)
    assert {cell.reply(message).status for message in messages} == {"answered"}
    eventually(lambda: "spans cannot be sent" in cell.logs(), what="the one line")
    began = time.monotonic()
    os.kill(worker.pid, signal.SIGTERM)
    eventually(lambda: worker.exit_code() is not None, what="the worker's end")
    assert worker.exit_code() == 0
    assert time.monotonic() - began < 15
    about_spans = [
        line for line in lines(cell.logs()) if "span" in line["event"] or "export" in line["event"].lower()
    ]
    assert len(about_spans) == 1, about_spans
    assert "canary-secret" not in cell.logs()


def test_an_exporter_that_there_is_none_of_is_one_clear_line(cell: Cell) -> None:
    there = {
        "KONSTRUCT_DATABASE_URL": cell.database.service_url,
        "KONSTRUCT_REDIS_URL": cell.redis_url,
        "KONSTRUCT_TRACING": "true",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
    }
    done = konstruct(
        "send", "--tenant", "acme", "--agent", "ada", "hello", cwd=cell.folder, env=environment(**there)
    )
    assert done.code == 2
    assert "OTEL_EXPORTER_OTLP_PROTOCOL: traces are sent by http/protobuf only" in done.err.replace("\n", " ")
