"""What pool and worker log of a message: who, which, how it ended; never what was said, never a secret."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

import pytest

from konstruct_cli.stack.process import claim_port
from tests.support.canaries import EVERYTHING, found_in, give_prompt, say_everything
from tests.support.otlp import Collector
from tests.support.providers import status
from tests.support.stack_command import environment, konstruct
from tests.support.traced import way
from tests.support.waiting import eventually
from tests.support.worker import Cell


def lines(text: str) -> list[dict[str, Any]]:
    """The log, parsed: every line of it is one JSON object."""
    parsed = [json.loads(line) for line in text.splitlines()]
    assert all({"timestamp", "level", "service", "logger", "event"} <= line.keys() for line in parsed)
    return parsed


def the_one(text: str, event: str, **facts: object) -> dict[str, Any]:
    (found,) = [line for line in lines(text) if line["event"] == event and facts.items() <= line.items()]
    return found


@pytest.mark.parametrize("level", ["info", "debug"])
def test_a_line_for_each_message_and_completion_and_nothing_that_was_said(cell: Cell, level: str) -> None:
    with way(cell, KONSTRUCT_LOG_LEVEL=level) as made:
        give_prompt(made)
        made.start_worker()
        say_everything(made)
        text = made.logs()
        pool_text = made.pool.log.read_text()
    assert found_in(text, EVERYTHING) == []

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
