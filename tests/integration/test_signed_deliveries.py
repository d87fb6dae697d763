"""Whoever can write to Redis and has no key speaks as nobody: refused, counted, and nothing comes of it."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from konstruct_cli.stack.process import claim_port
from orchestrator.main import TASK_NAME, app
from orchestrator.recording import record_message
from shared.db import get_session
from shared.reply import MessageStatus
from shared.rls import tenant_scope
from shared.signature import HEADER, sign
from tests.support.metrics import scrape, total
from tests.support.steady import more, steady_messages
from tests.support.waiting import eventually
from tests.support.worker import PAYLOAD_KEY, Cell

OTHER_KEY = "the-next-key-that-nobody-can-guess"
FORGED = "a-forged-instruction"


class Worker:
    """A worker whose metrics are read."""

    def __init__(self, cell: Cell, **settings: str) -> None:
        port = claim_port("worker", None)
        self.url = f"http://127.0.0.1:{port}"
        self.process = cell.start_worker(KONSTRUCT_WORKER_LISTEN=f"127.0.0.1:{port}", **settings)

    def refused(self) -> float:
        """How many deliveries it refused for their signature."""
        return total(scrape(self.url), "konstruct_deliveries_refused_total", reason="not_signed")

    def put_back(self) -> float:
        """How many deliveries it put back."""
        return total(scrape(self.url), "konstruct_deliveries_put_back_total")


def forge(payload: Any, **headers: Any) -> None:
    """Queue a payload without the key."""
    app.send_task(TASK_NAME, args=(payload,), headers=headers)


def test_what_is_not_signed_is_refused_and_nothing_comes_of_it(cell: Cell) -> None:
    worker = Worker(cell)
    payload = cell.message(FORGED).model_dump(mode="json")
    own = {**payload, "text": "what was signed"}
    deep: Any = "x"
    for _ in range(300):
        deep = [deep]
    signatures: list[Any] = [
        None,
        "",
        7,
        ["v1"],
        "v1=",
        "v1=\N{SNOWMAN}",
        sign(own, PAYLOAD_KEY),
        sign(payload, OTHER_KEY),
        sign(payload, PAYLOAD_KEY).removeprefix("v1="),
        sign(payload, PAYLOAD_KEY).upper(),
    ]
    for signature in signatures:
        forge(payload, **{HEADER: signature})
    forge(payload)
    malformed: list[Any] = [
        None,
        [],
        {},
        {"tenant_id": "acme", "message_id": "m"},
        deep,
        1e400,
        {"text": "\ud800"},
    ]
    for nonsense in malformed:
        forge(nonsense, **{HEADER: sign(own, PAYLOAD_KEY)})
    expected = len(signatures) + 1 + len(malformed)
    eventually(lambda: worker.refused() == expected, what="everything refused")
    assert eventually(cell.settled)
    assert cell.database.rows("select * from messages") == []
    assert cell.pool.requests == []
    log = worker.process.log.read_text()
    assert log.count("a delivery was refused") == expected
    for never in (FORGED, PAYLOAD_KEY, OTHER_KEY):
        assert never not in log


def test_a_forged_copy_neither_ends_nor_changes_a_message_that_is_real(cell: Cell) -> None:
    message = cell.message("the real text")
    with tenant_scope("acme"), get_session(cell.engine) as session:
        record_message(session, message)
    worker = Worker(cell)
    payload = message.model_dump(mode="json")
    for forged in ({**payload, "text": FORGED}, {**payload, "text": ""}, {**payload, "agent": "nobody"}):
        forge(forged)
        forge(forged, **{HEADER: sign(payload, PAYLOAD_KEY)})
    assert cell.reply(message).text == "You said: the real text"
    eventually(lambda: worker.refused() == 6, what="the forged ones refused")
    assert cell.pool.seen() == ["the real text"]


def test_a_delivery_with_the_key_needs_no_submission(cell: Cell) -> None:
    """A channel gateway that is not Python: docs/signatures.md tells it how."""
    cell.start_worker()
    message = cell.message('Grüße, \N{SNOWMAN} "quoted" \\ and\na line\t\x7f\U0001f600')
    payload = message.model_dump(mode="json")
    forge(payload, **{HEADER: sign(payload, PAYLOAD_KEY)})
    assert cell.reply(message).status is MessageStatus.ANSWERED


def test_what_is_put_back_and_handed_back_stays_signed(cell: Cell) -> None:
    workers = [Worker(cell)]
    cell.pool.gate.clear()
    first, second = (cell.message(text, thread_id="one") for text in ("first", "second"))
    cell.submit(first)
    eventually(lambda: cell.pool.waiting == 1, what="the first being answered")
    cell.deliver(second.model_dump(mode="json"))  # submitted, it would wait in PostgreSQL for its turn
    log = workers[0].process.log
    eventually(lambda: workers[0].put_back() > 0, what="the second being put back")
    workers.append(Worker(cell))
    os.kill(workers[0].process.pid, signal.SIGTERM)
    eventually(lambda: workers[0].process.exit_code() is not None, what="the first worker's end")
    cell.pool.gate.set()
    assert [cell.reply(one).status for one in (first, second)] == [MessageStatus.ANSWERED] * 2
    assert workers[1].refused() == 0
    assert "a delivery was refused" not in log.read_text()


def test_the_key_is_changed_under_steady_messages(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    def settings(key: str, second: str = "") -> dict[str, str]:
        return {"KONSTRUCT_PAYLOAD_KEY": key, "KONSTRUCT_PAYLOAD_SECOND_KEY": second}

    worker = Worker(cell)
    with steady_messages(cell) as sent:
        more(cell, sent)
        # The three steps: both are taken; the next one signs, here and there; the last one goes.
        for step in (settings(PAYLOAD_KEY, OTHER_KEY), settings(OTHER_KEY, PAYLOAD_KEY), settings(OTHER_KEY)):
            following = Worker(cell, **step)
            more(cell, sent)
            assert worker.refused() == 0
            worker.process.stop()
            monkeypatch.setenv("KONSTRUCT_PAYLOAD_KEY", step["KONSTRUCT_PAYLOAD_KEY"])
            worker = following
            more(cell, sent)
        assert worker.refused() == 0
    assert {cell.reply(message).status for message in sent} == {MessageStatus.ANSWERED}
    assert "a delivery was refused" not in cell.logs()


@pytest.mark.timeout(400)
@pytest.mark.parametrize("lenient", [True, False])
def test_a_key_is_introduced_under_steady_messages(
    cell: Cell, monkeypatch: pytest.MonkeyPatch, lenient: bool
) -> None:
    """Workers of a release without a key, and of one with it, side by side."""
    monkeypatch.delenv("KONSTRUCT_PAYLOAD_KEY")
    last = cell.start_worker(KONSTRUCT_PAYLOAD_KEY="")
    with steady_messages(cell) as sent:
        more(cell, sent)
        worker = Worker(cell, KONSTRUCT_PAYLOAD_UNSIGNED=str(lenient).lower())
        more(cell, sent)
        monkeypatch.setenv("KONSTRUCT_PAYLOAD_KEY", PAYLOAD_KEY)
        more(cell, sent)
        last.stop()
        more(cell, sent)
    # Strict from the start, what is refused is recorded, and comes again from PostgreSQL.
    assert {cell.reply(message, within_s=90).status for message in sent} == {MessageStatus.ANSWERED}
    assert (worker.refused() > 0) is not lenient
    forge(cell.message(FORGED).model_dump(mode="json"), **{HEADER: "v1=wrong"})
    eventually(lambda: "none by a key of ours" in cell.logs(), what="a wrong signature refused all the same")


def test_without_a_key_everything_in_redis_is_taken(cell: Cell) -> None:
    """As docs/security.md says: whoever can write to Redis then speaks as any tenant."""
    cell.start_worker(KONSTRUCT_PAYLOAD_KEY="")
    message = cell.message("hello")
    forge(message.model_dump(mode="json"))
    assert cell.reply(message).status is MessageStatus.ANSWERED
