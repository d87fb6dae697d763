"""What the pool, or something in its place, may answer: a worker makes a reply of it that can be recorded.

Whatever cannot be recorded would be a fault of the worker, found only after a model was paid.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from orchestrator import messages
from orchestrator.agents.answers import POLITE_FALLBACK, RunResult
from orchestrator.agents.catalog import ServedAgent
from orchestrator.agents.runner import Runner
from orchestrator.invalid import record_invalid
from orchestrator.messages import Claim, find_reply, record_reply
from orchestrator.recording import load, record_message
from orchestrator.replies import reply_from
from orchestrator.runtime import Runtime
from shared.contract import CompletionRequest
from shared.db import get_session
from shared.models import AgentSpec, KonstructMessage
from shared.persona import render
from shared.reply import MessageStatus, Reason
from shared.rls import tenant_scope
from tests.support.database import Database
from tests.support.fuzzing import tries
from tests.support.pool import Exchange, StubPool, envelope, running_stub_pool
from tests.support.strategies import damaged

WHOLE = envelope("Hello")

PROBLEM = {
    "type": "urn:konstruct:problem:providers_failed",
    "title": "t",
    "status": 503,
    "detail": "d",
    "code": "providers_failed",
    "attempts": WHOLE["attempts"],
}

REQUEST = CompletionRequest.model_validate(
    {
        "model": "quality",
        "messages": [{"role": "user", "content": "Hi"}],
        "tenant_id": "acme",
        # Too little to ask again: what is looked at is how one answer is read.
        "timeout_s": 0.9,
    }
)

AGENT = ServedAgent.of(("acme", "ada"), render(AgentSpec.model_validate({"displayName": "Ada"})))

_numbers = itertools.count()


def http(status: int | str, body: bytes, *headers: bytes) -> bytes:
    """Put an answer together."""
    lines = [b"HTTP/1.1 %s x" % str(status).encode(), b"content-length: %d" % len(body), *headers]
    return b"\r\n".join([*lines, b"connection: close", b"", body])


def says(**changes: Any) -> bytes:
    return http(200, json.dumps({**WHOLE, **changes}).encode())


def attempted(**changes: Any) -> list[dict[str, Any]]:
    return [{**WHOLE["attempts"][0], **changes}]


statuses = st.sampled_from(
    [200, 204, 206, 301, 304, 400, 418, 429, 500, 502, 503, 504, 599, 999]
) | st.integers(0, 9999)
bodies = (
    (damaged(WHOLE) | damaged(PROBLEM)).map(lambda whole: json.dumps(whole).encode())
    | st.binary(max_size=60)
    | st.sampled_from([b"", b"[" * 50_000, json.dumps(WHOLE).encode("utf-16")])
)
headers = st.sampled_from(
    [
        b"x: y",
        b"content-encoding: gzip",
        b"content-encoding: br",
        b"content-type: x; charset=\xff",
        b"retry-after: " + b"9" * 500,
        b"retry-after: -1",
        b"location: http://[",
        b"transfer-encoding: chunked",
        b"content-length: 3",
        b"set-cookie: \xff\x00=;;",
        b"no colon",
    ]
)
answers = (
    damaged(WHOLE).map(lambda whole: http(200, json.dumps(whole).encode()))
    | st.builds(http, statuses, bodies, headers)
    | st.binary(max_size=80)
)


@pytest.fixture
def runtime(database: Database, tmp_path: Path) -> Iterator[Runtime]:
    """Lend the parts of a worker that never starts."""
    made = Runtime.build(database.settings(agents_dir=tmp_path))
    made.runner.start()  # so that it can be closed
    yield made
    made.runner.close()
    made.engine.dispose()
    made.system_engine.dispose()


@pytest.fixture
def pool(database: Database) -> Iterator[StubPool]:
    with running_stub_pool() as made:
        yield made


def ask(pool: StubPool, runner: Runner, came: bytes) -> RunResult:
    def answer(_: StubPool, exchange: Exchange) -> None:
        exchange.handler.wfile.write(came)
        exchange.handler.close_connection = True

    pool.answer = answer
    return asyncio.run(runner.run(REQUEST))


def message(**changes: Any) -> KonstructMessage:
    values = {"tenant_id": "acme", "thread_id": "t", "agent": "ada", "sender": "sam", "text": "Hi"}
    return KonstructMessage.model_validate(values | {"message_id": f"m{next(_numbers)}"} | changes)


def check_recorded(result: RunResult, runtime: Runtime) -> None:
    """Record what came of asking, as a worker does, and read it back."""
    asked = message(thread_id=f"t{next(_numbers)}")
    account = result.envelope or result.problem
    with tenant_scope("acme"):
        held = messages.claim(asked, "w", 60, 2, on=runtime.engine)
        assert isinstance(held, Claim)
        reply = reply_from(asked, AGENT, result)
        assert record_reply(reply, held, account, on=runtime.engine)
    assert find_reply("acme", asked.message_id, on=runtime.engine) == reply


@pytest.mark.timeout(0)
@given(came=answers)
@example(says())
@example(says(usage={"prompt_tokens": 10**30}))
@example(says(cost_usd=1e300))
@example(says(cost_usd=float("nan")))
@example(says(latency_ms=float("inf")))
@example(says(model="a\x00b"))
@example(says(served_group="\x00"))
@example(says(content="\x00"))
@example(says(content="a\x00b"))
@example(says(attempts=attempted(ms=float("inf"))))
@example(says(attempts=attempted(deployment="\x00")))
@example(http(503, json.dumps({**PROBLEM, "attempts": attempted(group="\x00")}).encode()))
@example(http(999, b""))
@tries(60)
def test_every_answer_ends_in_a_reply_that_is_recorded(pool: StubPool, runtime: Runtime, came: bytes) -> None:
    runner = Runner(runtime.settings.model_copy(update={"llm_pool_url": pool.url}))
    runner.start()
    try:
        result = ask(pool, runner, came)
    finally:
        runner.close()
    assert (result.reason is None) == (result.envelope is not None)
    assert result.reason is not Reason.INTERNAL_ERROR
    assert result.envelope is not None or result.text == POLITE_FALLBACK
    check_recorded(result, runtime)
    assert result.envelope is None or result.text.strip()


PAYLOAD = message(message_id="x").model_dump(mode="json")


def check_payload(payload: Any, runtime: Runtime) -> None:
    try:
        good = KonstructMessage.model_validate(payload)
    except ValidationError as error:
        reply = record_invalid(payload, error, runtime)
        assert (reply.status, reply.reason) == (MessageStatus.FAILED, Reason.MESSAGE_INVALID)
        if "invalid" not in (reply.tenant_id, reply.message_id):
            assert find_reply(reply.tenant_id, reply.message_id, on=runtime.engine) is not None
        return
    with tenant_scope(good.tenant_id):
        with get_session(runtime.engine) as session:
            record_message(session, good)
        ((stored, _),) = load(good.tenant_id, [good.message_id], on=runtime.engine)
    assert stored == good


@pytest.mark.timeout(0)
@given(payload=damaged(PAYLOAD))
@example({**PAYLOAD, "sent_at": "9999-12-31T23:59:59-23:00"})
@example({**PAYLOAD, "sent_at": "0001-01-01T00:00:00+23:00"})
@example({**PAYLOAD, "sent_at": "9998-12-31T23:59:59-23:00"})
@example({**PAYLOAD, "\x00": 1})
@example({**PAYLOAD, "text": "\ud800"})
@example({**PAYLOAD, "\ud800": 1})
@tries(60)
def test_every_payload_is_recorded_as_it_is_or_as_refused(runtime: Runtime, payload: dict[str, Any]) -> None:
    check_payload({**payload, "message_id": f"m{next(_numbers)}"}, runtime)
