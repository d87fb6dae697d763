"""A steady load on the running system, and how each request ended, as whoever sent it saw it."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx
from sqlalchemy import Engine, text

from orchestrator.decisions import Decision
from orchestrator.main import TASK_NAME, app
from orchestrator.parked import decide
from orchestrator.recording import record_message
from orchestrator.sending import submit
from shared.db import get_session
from shared.models import KonstructMessage
from shared.rls import tenant_scope
from tests.support.database import Database
from tests.support.waiting import eventually

COMPLETIONS_PER_S = 10.0
"""Requests a second that go to the llm-pool directly."""

MESSAGES_PER_S = 4.0
"""Messages a second."""

AGENTS = (("acme", "ada"), ("globex", "greta"), ("globex", "hugo"))
"""Whom messages are for: tenant and name."""

ASKED = ("quality", "quality", "fast")
"""Groups that direct completions ask for, in turn."""

NONE = "_none"
"""What the metrics call the group of a request that nobody answered."""


@dataclass(frozen=True)
class Ended:
    """One request to the llm-pool, as its sender saw it end."""

    at: float
    """When, in seconds since the epoch."""
    requested: str
    """Group that was asked for."""
    served: str
    """Group that answered."""
    outcome: str
    """``ok``, or the code of the problem."""
    attempts: tuple[tuple[str, str], ...] = ()
    """Deployments asked and what came of each; of messages only those that were answered tell."""


class Load:
    """Sends messages and completions at a steady rate, while it is a context."""

    def __init__(self, pool_url: str, engine: Engine, database: Database) -> None:
        self._database = database
        self._engine = engine
        self._client = httpx.Client(base_url=pool_url, timeout=30, trust_env=False)
        self._stop = threading.Event()
        self._sending = threading.Lock()
        self._senders = ThreadPoolExecutor(64, thread_name_prefix="load")
        self._sent: list[Future[None]] = []
        self._numbers = itertools.count()
        self._direct: list[Ended] = []
        self._threads = [
            threading.Thread(
                target=self._at_rate, args=(COMPLETIONS_PER_S, self._complete), name="completions"
            ),
            threading.Thread(target=self._at_rate, args=(MESSAGES_PER_S, self._send), name="messages"),
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._senders.shutdown(wait=True)
        self._client.close()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Send nothing more, wait until all that was sent has ended, and go on sending after the block.

        What went wrong in sending is raised.
        """
        with self._sending:
            for sent in self._sent:
                sent.result()
            eventually(lambda: not self._unfinished(), within_s=60, what="a reply to every message")
            yield

    def rush(self, completions: int, messages: int) -> None:
        """Send this much at once, beside the steady load."""
        for send, count in ((self._send, messages), (self._complete, completions)):
            self._sent += [self._senders.submit(send, next(self._numbers)) for _ in range(count)]

    def forge(self) -> None:
        """Queue a message without a signature."""
        forged = _message(next(self._numbers)).model_dump(mode="json")
        app.send_task(TASK_NAME, args=(forged,), ignore_result=True)

    def poison(self) -> KonstructMessage:
        """Record a message that processes have died of, the last of them in quarantine."""
        message = _message(next(self._numbers))
        with tenant_scope(message.tenant_id), get_session(self._engine) as session:
            record_message(session, message)
        self._database.execute(f"update messages set deaths = 3 where message_id = '{message.message_id}'")
        return message

    def strand(self) -> None:
        """Record a message as a database does whose clock is a day ahead, and set right afterwards."""
        message = _message(next(self._numbers))
        with tenant_scope(message.tenant_id), get_session(self._engine) as session:
            record_message(session, message, queued=False)
            session.execute(
                text("update messages set due_at = now() + interval '1 day' where message_id = :id"),
                {"id": message.message_id},
            )

    def drop(self, message: KonstructMessage) -> None:
        """Decide that a parked message stays unanswered."""
        assert decide(message.tenant_id, message.message_id, Decision.DROP, on=self._engine)

    def completions(self) -> int:
        """Count the direct completions that have ended."""
        return len(self._direct)

    def ended(self) -> list[Ended]:
        """List the requests to the pool that have ended, direct ones and those of messages, in order."""
        rows = self._database.rows(
            "select extract(epoch from finished_at)::float8, requested_group, served_group, status, reason,"
            " pool_attempts from messages where status in ('answered', 'apologised')"
        )
        return sorted((*self._direct, *(_of_message(*row) for row in rows)), key=lambda one: one.at)

    def messages(self) -> dict[str, list[str | None]]:
        """List the reasons of all messages, by how they ended."""
        found: dict[str, list[str | None]] = {}
        for status, reason in self._database.rows("select status, reason from messages"):
            found.setdefault(str(status), []).append(None if reason is None else str(reason))
        return found

    def _unfinished(self) -> int:
        [(count,)] = self._database.rows("select count(*) from messages where status = 'received'")
        assert isinstance(count, int)
        return count

    def _at_rate(self, per_s: float, send: Callable[[int], None]) -> None:
        due = time.monotonic()
        while not self._stop.wait(max(due - time.monotonic(), 0)):
            with self._sending:
                self._sent.append(self._senders.submit(send, next(self._numbers)))
            due = max(due, time.monotonic() - 1) + 1 / per_s

    def _complete(self, number: int) -> None:
        group = ASKED[number % len(ASKED)]
        messages = [{"role": "user", "content": f"Question {number}?"}]
        answer = self._client.post(
            "/complete", json={"model": group, "messages": messages, "tenant_id": "acme"}
        )
        self._direct.append(_of_answer(group, answer.status_code, answer.json()))

    def _send(self, number: int) -> None:
        submit(_message(number), on=self._engine)


def _message(number: int) -> KonstructMessage:
    tenant, agent = AGENTS[number % len(AGENTS)]
    return KonstructMessage(
        tenant_id=tenant, thread_id=f"thread-{number}", agent=agent, sender="load", text=f"Hello {number}"
    )


def _of_answer(group: str, status: int, body: dict[str, Any]) -> Ended:
    attempts = tuple((one["deployment"], one["outcome"]) for one in body["attempts"])
    if status == 200:
        return Ended(time.time(), group, body["served_group"], "ok", attempts)
    return Ended(time.time(), group, NONE, body["code"], attempts)


def _of_message(at: Any, requested: Any, served: Any, status: Any, reason: Any, attempts: Any) -> Ended:
    tried = tuple((one["deployment"], one["outcome"]) for one in attempts or ())
    if status == "answered":
        return Ended(at, requested, served, "ok", tried)
    return Ended(at, requested, NONE, reason, tried)
