"""Messages that come steadily while something is changed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from shared.models import KonstructMessage
from tests.support.waiting import eventually
from tests.support.worker import Cell

EVERY_S = 0.05
"""Seconds between two messages."""


@contextmanager
def steady_messages(cell: Cell) -> Iterator[list[KonstructMessage]]:
    """Submit messages one after the other until the block's end; yields those that were."""
    sent: list[KonstructMessage] = []
    over = threading.Event()

    def send() -> None:
        while not over.wait(EVERY_S):
            message = cell.message(f"number {len(sent)}")
            cell.submit(message)
            sent.append(message)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield sent
    finally:
        over.set()
        thread.join()


def more(cell: Cell, sent: list[KonstructMessage]) -> None:
    """Wait until some that are sent from now on are answered."""
    until = len(sent) + 10
    eventually(lambda: len(sent) >= until, what="ten more messages")
    # Refused by a worker, a message comes again after some seconds, and may be refused again.
    cell.reply(sent[until - 1], within_s=90)
