"""What senders and workers do, with the orchestrator's own functions, and told to the model."""

from __future__ import annotations

from itertools import count

import psycopg
import pytest

from orchestrator import messages
from orchestrator.errors import MessageConflictError
from orchestrator.faults import record_fault
from orchestrator.messages import Busy, Claim, Suspect
from orchestrator.recording import put_in_line, record_message
from orchestrator.replies import failed
from orchestrator.runtime import Runtime
from shared.contract import CompletionResponse
from shared.db import get_session
from shared.models import KonstructMessage
from shared.reply import MessageStatus, Reason, Reply
from shared.rls import tenant_scope
from tests.fuzz.delivery_model import (
    LEASE,
    SECOND,
    SUSPECT_FROM,
    Delivery,
    Held,
    Model,
    Sent,
    Turn,
    Worker,
)
from tests.fuzz.delivery_words import (
    reply_to,
)
from tests.support.database import Database


class Deliveries:
    """PostgreSQL, and beside it the model, the copies in Redis and the workers."""

    def __init__(self, database: Database, runtime: Runtime) -> None:
        """Begin with nothing sent; `runtime` lends its engines and settings and runs nothing."""
        self.runtime = runtime
        self.engine = runtime.engine
        self.model = Model()
        self.queue: list[Delivery] = []
        self.workers: list[Worker] = []
        self._numbers = count()
        self.superuser = psycopg.connect(database.superuser_url, autocommit=True)
        self.superuser.execute("truncate messages restart identity")

    def close(self) -> None:
        self.superuser.close()

    # Senders

    def record(self, message: KonstructMessage) -> None:
        """Record, as submit does before it queues."""
        before = self.model.sent.get((message.tenant_id, message.message_id))
        with tenant_scope(message.tenant_id):
            if not self.model.same(message):
                with pytest.raises(MessageConflictError), get_session(self.engine) as session:
                    record_message(session, message)
                return
            with get_session(self.engine) as session:
                recorded = record_message(session, message)
        assert recorded.new is (before is None)
        assert recorded.status == (before.reply.status if before and before.reply else MessageStatus.RECEIVED)
        self.model.accept(message)

    def put_in_line(self, message: KonstructMessage, after_s: float | None = None) -> bool:
        with tenant_scope(message.tenant_id):
            return put_in_line(message, after_s=after_s, on=self.engine)

    # Workers

    def start_worker(self) -> Worker:
        worker = Worker(f"worker-{next(self._numbers)}")
        self.workers.append(worker)
        return worker

    def take(self, worker: Worker, delivery: Delivery) -> None:
        """Let a worker take a delivery and claim its message, and see what becomes of the delivery."""
        delivery.taken = self.model.now
        message = delivery.message
        match self.claim(worker.name, message, SUSPECT_FROM):
            case Claim() as claim:
                worker.holds.append(Held(claim, message, delivery))
            case Busy():
                self.put_back(delivery)
            case _:
                self.queue.remove(delivery)

    def put_back(self, delivery: Delivery) -> None:
        """Deliver it later, or, every other time, have its message wait in line if nobody works on it."""
        self.queue.remove(delivery)
        if next(self._numbers) % 2 or not self.put_in_line(delivery.message, after_s=SECOND):
            self.queue.append(Delivery(delivery.message))

    def claim(
        self, owner: str, message: KonstructMessage, suspect_from: int
    ) -> Claim | Busy | Suspect | Reply | None:
        """Claim, and compare what it comes to with what it must."""
        turn = self.model.turn(message, suspect_from)
        if turn is Turn.CONFLICT:
            with pytest.raises(MessageConflictError):
                self.ask_for(owner, message, suspect_from)
            return None
        sent = self.model.accept(message)
        came = self.ask_for(owner, message, suspect_from)
        match turn, came:
            case Turn.REPLY, Reply():
                assert came == sent.reply
            case Turn.CLAIM, Claim():
                self.took(sent, owner, came)
            case (Turn.BUSY, Busy()) | (Turn.SUSPECT, Suspect()):
                pass
            case _:
                raise AssertionError(f"a claim came to {came}, not to {turn}")
        return came

    def took(self, sent: Sent, owner: str, claim: Claim) -> None:
        self.model.take(sent, owner)
        assert (claim.owner, claim.attempt, claim.deaths) == (owner, sent.attempt, sent.deaths)
        assert claim.history == self.model.history(sent)

    def ask_for(
        self, owner: str, message: KonstructMessage, suspect_from: int
    ) -> Claim | Busy | Suspect | Reply:
        with tenant_scope(message.tenant_id):
            return messages.claim(message, owner, LEASE * SECOND, suspect_from, on=self.engine)

    def finish(self, worker: Worker, held: Held, status: MessageStatus) -> None:
        """Let a worker record what came of a message, late or not."""
        worker.holds.remove(held)
        reply, account = self.reply(held, status)
        current = self.model.holds(held)
        assert self.write(held, reply, account) is current
        if current:
            self.model.finish(self.sent(held), reply)
        if held.delivery in self.queue:
            self.queue.remove(held.delivery)
            if not current:
                self.queue.append(Delivery(held.message))

    def write(self, held: Held, reply: Reply, account: CompletionResponse | None) -> bool:
        with tenant_scope(held.message.tenant_id):
            return messages.record_reply(reply, held.claim, account, on=self.engine)

    def reply(self, held: Held, status: MessageStatus) -> tuple[Reply, CompletionResponse | None]:
        """Make a reply that no other attempt makes."""
        return reply_to(held, status, next(self._numbers))

    def hand_back(self, worker: Worker, held: Held) -> None:
        """Give a claim up, as at the end of a drain, and return the delivery."""
        worker.holds.remove(held)
        self._release(held)
        if held.delivery in self.queue:
            held.delivery.taken = None

    def _release(self, held: Held) -> None:
        with tenant_scope(held.message.tenant_id):
            messages.release(held.message.tenant_id, held.claim, on=self.engine)
        if self.model.holds(held):
            self.sent(held).owner = None

    def fault(self, worker: Worker, held: Held) -> None:
        """Let a fault of the worker interrupt it."""
        self.hand_back(worker, held)
        sent = self.sent(held)
        given_up = failed(held.message, Reason.INTERNAL_ERROR)
        if sent.reply is None and sent.owner is None:
            sent.errors += 1
            if sent.errors >= self.runtime.settings.max_errors:
                self.model.finish(sent, given_up)
        came = record_fault(held.message.model_dump(mode="json"), self.runtime)
        assert came == sent.reply
        if came is not None and held.delivery in self.queue:
            self.queue.remove(held.delivery)

    def sent(self, held: Held) -> Sent:
        return self.model.sent[held.message.tenant_id, held.message.message_id]

    def crash(self, worker: Worker) -> None:
        """Let a worker die with everything it holds."""
        self.workers.remove(worker)
