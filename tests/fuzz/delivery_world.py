"""One step of delivery at a time, done with the orchestrator's own functions and told to the model."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import psycopg
import pytest
from sqlalchemy import text

from orchestrator import messages, parked
from orchestrator.decisions import Decision
from orchestrator.errors import MessageConflictError
from orchestrator.faults import record_fault
from orchestrator.messages import Busy, Claim, Suspect
from orchestrator.recording import load, put_in_line, record_message
from orchestrator.replies import FAILURES, failed
from orchestrator.runtime import Runtime
from shared.contract import CompletionResponse
from shared.db import get_session
from shared.models import KonstructMessage
from shared.reply import MessageStatus, Reason, Reply
from shared.rls import tenant_scope
from tests.fuzz.delivery_model import (
    LEASE,
    LOST_AFTER,
    SECOND,
    SUSPECT_FROM,
    VISIBILITY,
    Delivery,
    Held,
    Key,
    Model,
    Sent,
    Turn,
    Worker,
)
from tests.support.database import Database
from tests.support.pool import envelope

TENANTS = ("acme", "globex")
"""Whose messages have the same ids and threads: only the tenant tells them apart."""

MOST = 500
"""Most that one look takes."""

_RECLAIM = text("select konstruct_reclaim(:held, :lost_after, :suspect_from, :most)")
_DISPATCH = text("select tenant_id, message_id from konstruct_dispatch(:most, :most, :suspect_from, :most)")
_SUSPECTS = text("select tenant_id, message_id, deaths from konstruct_suspects(:suspect_from, :most)")
_EXTEND = text("select konstruct_extend_leases(:owner, :held, :seconds)")
_AGE = """
    update messages set
        received_at = received_at - %(by)s::interval, due_at = due_at - %(by)s::interval,
        queued_at = queued_at - %(by)s::interval,
        started_at = started_at - %(by)s::interval, finished_at = finished_at - %(by)s::interval,
        lease_expires_at = lease_expires_at - %(by)s::interval
"""
_ROWS = """
    select tenant_id, message_id, status, reason, reply, owner, coalesce(lease_expires_at > now(), false),
           attempt, deaths, errors, text
      from messages order by seq
"""


class World:
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
        message = held.message
        said = f"{status} {next(self._numbers)} by {held.claim.owner}, attempt {held.claim.attempt}"
        common = {
            **message.model_dump(include={"message_id", "thread_id", "tenant_id", "agent"}),
            "text": said,
        }
        if status is MessageStatus.ANSWERED:
            account = CompletionResponse.model_validate(envelope(said))
            spoken = account.model_dump(include={"model", "requested_group", "served_group", "usage"})
            return Reply.model_validate({**common, **spoken, "status": status, "revision": "r1"}), account
        reason = Reason.PROVIDERS_FAILED if status is MessageStatus.APOLOGISED else Reason.AGENT_UNKNOWN
        return Reply.model_validate({**common, "status": status, "reason": reason}), None

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

    # Time

    def wait(self, seconds: int) -> None:
        """Let time pass: workers that live and are heard extend their leases, Redis delivers again."""
        self.superuser.execute(_AGE, {"by": f"{seconds * SECOND} s"})
        self.model.now += seconds
        for worker in self.workers:
            held = [held.claim.seq for held in worker.holds]
            if held and not worker.silent:
                parameters = {"owner": worker.name, "held": held, "seconds": LEASE * SECOND}
                with self.runtime.system_engine.begin() as connection:
                    connection.execute(_EXTEND, parameters)
        self.model.beat(self.workers)
        for delivery in self.queue:
            if delivery.taken is not None and self.model.now - delivery.taken >= VISIBILITY:
                delivery.taken = None

    # What every worker does beside its messages

    def sweep(self, miscount: int = 0) -> None:
        """Queue what waits in line, and again what has no delivery.

        `miscount` is by how much the count of deliveries is wrong.
        """
        self.find_lost(miscount)
        found = self.take_turns()
        for key in found:
            sent = self.model.sent[key]
            assert self.model.free(sent)
            assert self.model.deaths(sent) < SUSPECT_FROM
        self.queue_again(found)

    def find_lost(self, miscount: int = 0) -> None:
        """Have PostgreSQL put what has no delivery back in line."""
        waiting = sum(delivery.taken is None for delivery in self.queue)
        held = max(0, (len(self.queue) if waiting else 0) + miscount)
        parameters = {
            "held": held,
            "lost_after": LOST_AFTER * SECOND,
            "suspect_from": SUSPECT_FROM,
            "most": MOST,
        }
        with self.runtime.system_engine.begin() as connection:
            connection.execute(_RECLAIM, parameters)

    def take_turns(self) -> list[Key]:
        """Ask PostgreSQL for what is to be queued."""
        parameters = {"suspect_from": SUSPECT_FROM, "most": MOST}
        with self.runtime.system_engine.begin() as connection:
            found = sorted(
                (row.tenant_id, row.message_id) for row in connection.execute(_DISPATCH, parameters)
            )
        assert len(found) == len(set(found))
        return found

    def queue_again(self, found: list[Key]) -> None:
        """Queue what was found, as it was recorded."""
        for tenant, message_id in found:
            assert self.model.sent[tenant, message_id].reply is None
            self.queue.extend(Delivery(message) for message in self._load(tenant, message_id))

    def _load(self, tenant: str, message_id: str) -> list[KonstructMessage]:
        with tenant_scope(tenant):
            loaded = [message for message, _ in load(tenant, [message_id], on=self.engine)]
        assert loaded == [self.model.sent[tenant, message_id].message]
        return loaded

    def look_after_suspects(self, outcomes: Callable[[], MessageStatus | None]) -> None:
        """Park what died alone, try the others alone; no status is another death."""
        with self.runtime.system_engine.begin() as connection:
            found = connection.execute(_SUSPECTS, {"suspect_from": SUSPECT_FROM, "most": MOST}).all()
        assert [tuple(row) for row in found] == self.model.suspects()
        for tenant, message_id, deaths in found:
            sent = self.model.sent[tenant, message_id]
            if deaths > SUSPECT_FROM:
                self._park(sent, deaths)
                continue
            worker = Worker(f"quarantine-{next(self._numbers)}")
            came = self.claim(worker.name, sent.message, SUSPECT_FROM + 1)
            assert isinstance(came, Claim)
            worker.holds.append(held := Held(came, sent.message, None))
            if status := outcomes():
                self.finish(worker, held, status)

    def _park(self, sent: Sent, deaths: int) -> None:
        tenant, message_id = sent.key
        with tenant_scope(tenant):
            reply = parked.park(tenant, message_id, on=self.engine)
        assert reply is not None
        assert (reply.status, reply.reason) == (MessageStatus.FAILED, Reason.PARKED)
        self.model.finish(sent, reply)
        sent.deaths = deaths

    # People

    def decide(self, tenant: str, message_id: str, decision: Decision) -> None:
        """Decide about a message, parked or not, of a tenant."""
        sent = self.model.sent.get((tenant, message_id))
        is_parked = sent is not None and sent.reply is not None and sent.reply.reason is Reason.PARKED
        assert parked.decide(tenant, message_id, decision, on=self.engine) is is_parked
        if sent is None or not is_parked:
            return
        if decision is Decision.DROP:
            self.model.drop(sent, FAILURES[Reason.DROPPED])
        else:
            self.model.retry(sent)

    # What must hold

    def check(self) -> None:
        """Compare PostgreSQL with the model, as a superuser and as each tenant sees it."""
        rows = self.superuser.execute(_ROWS).fetchall()
        assert rows == [sent.row(self.model.now) for sent in self.model.sent.values()]
        for tenant in TENANTS:
            with tenant_scope(tenant), get_session(self.engine) as session:
                seen = session.execute(text("select tenant_id, message_id, reply from messages order by seq"))
                assert [tuple(row) for row in seen] == [
                    (*sent.key, sent.reply.text if sent.reply else None)
                    for sent in self.model.sent.values()
                    if sent.key[0] == tenant
                ]
