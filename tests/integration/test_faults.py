"""Faults of the worker itself: tried again, counted, and in the end told."""

from __future__ import annotations

from tests.support.waiting import eventually
from tests.support.worker import Cell


def test_a_message_that_the_worker_stumbles_over_is_given_up_with_a_reason(cell: Cell) -> None:
    """Its conversation has a turn that no worker ever wrote: an answer that says nothing."""
    cell.start_worker(KONSTRUCT_MAX_ERRORS="2")
    first, second = (cell.message(text, thread_id="t") for text in ("hello", "and again"))
    cell.submit(first)
    cell.reply(first)
    cell.database.rewrite("update messages set reply = null")
    cell.submit(second)
    reply = cell.reply(second)
    assert (reply.status, reply.reason) == ("failed", "internal_error")
    faults = "select errors, deaths, owner from messages where text = 'and again'"
    assert cell.database.rows(faults) == [(2, 0, None)]
    assert eventually(cell.settled)
