"""Delivery as a whole: time that passes, what every worker does beside its messages, and what must hold."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import text

from orchestrator import parked
from orchestrator.decisions import Decision
from orchestrator.messages import Claim
from orchestrator.recording import load
from shared.db import get_session
from shared.models import KonstructMessage
from shared.reply import MessageStatus, Reason
from shared.rls import tenant_scope
from tests.fuzz.delivery_model import (
    CROWD,
    LEASE,
    LONGEST_LEASE,
    LOST_AFTER,
    SECOND,
    SUSPECT_FROM,
    VISIBILITY,
    Delivery,
    Held,
    Key,
    Sent,
    Worker,
)
from tests.fuzz.delivery_steps import Deliveries
from tests.fuzz.delivery_words import (
    AGE,
    DISPATCH,
    EXTEND,
    MEND,
    MOST,
    RECLAIM,
    ROWS,
    STRANDED,
    SUSPECTS,
    TENANTS,
)
from tests.fuzz.delivery_words import CROWD as CROWD_ROWS


class World(Deliveries):
    """Everything that happens to messages, one step at a time."""

    # Time

    def wait(self, seconds: int) -> None:
        """Let time pass: workers that live and are heard extend their leases, Redis delivers again."""
        with self.superuser.transaction():  # past the trigger that keeps replies as they are
            self.superuser.execute("set local session_replication_role = replica")
            self.superuser.execute(AGE, {"by": f"{seconds * SECOND} s"})
        self.model.now += seconds
        for worker in self.workers:
            held = [held.claim.seq for held in worker.holds]
            if held and not worker.silent:
                parameters = {"owner": worker.name, "held": held, "seconds": LEASE * SECOND}
                with self.runtime.system_engine.begin() as connection:
                    connection.execute(EXTEND, parameters)
        self.model.beat(self.workers)
        for delivery in self.queue:
            if delivery.taken is not None and self.model.now - delivery.taken >= VISIBILITY:
                delivery.taken = None

    def set_back(self, seconds: int) -> None:
        """Set the clock of PostgreSQL back: what was written before lies ahead."""
        with self.superuser.transaction():
            self.superuser.execute("set local session_replication_role = replica")
            self.superuser.execute(AGE, {"by": f"{-seconds * SECOND} s"})
        self.model.now -= seconds

    def crowd(self) -> None:
        """Have a thread that nobody works on wait in line, older than what comes; once."""
        if not self.superuser.execute("select from messages where thread_id = 'crowd' limit 1").fetchall():
            self.superuser.execute(CROWD_ROWS, {"count": CROWD})

    # What every worker does beside its messages

    def mend(self) -> None:
        """Put right what would keep messages from ever having their turn; nothing is stranded then."""
        longest = {"longest_lease": LONGEST_LEASE * SECOND}
        with self.runtime.system_engine.begin() as connection:
            connection.execute(MEND, longest)
        self.model.mend(LONGEST_LEASE)
        stranded = self.superuser.execute(STRANDED, {**longest, "suspect_from": SUSPECT_FROM}).fetchall()
        assert stranded == []

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
            connection.execute(RECLAIM, parameters)

    def take_turns(self) -> list[Key]:
        """Ask PostgreSQL for what is to be queued."""
        parameters = {"suspect_from": SUSPECT_FROM, "most": MOST}
        with self.runtime.system_engine.begin() as connection:
            found = sorted(
                (row.tenant_id, row.message_id)
                for row in connection.execute(DISPATCH, parameters)
                if not row.message_id.startswith("crowd-")
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
        # Some were put off; here no time passes by itself until they are due.
        self.superuser.execute(
            "update messages set due_at = now() where status = 'received' and due_at > now()"
        )
        with self.runtime.system_engine.begin() as connection:
            found = connection.execute(SUSPECTS, {"suspect_from": SUSPECT_FROM, "most": MOST}).all()
        assert sorted(tuple(row) for row in found) == sorted(self.model.suspects())
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
        decided = parked.decide(tenant, message_id, decision, on=self.engine)
        if sent is None or not is_parked:
            assert decided is None
            return
        assert decided is not None
        self.model.decide(sent, decision, decided)

    # What must hold

    def check(self) -> None:
        """Compare PostgreSQL with the model, as a superuser and as each tenant sees it."""
        assert max(self.model.under_way().values(), default=0) <= 1
        rows = self.superuser.execute(ROWS).fetchall()
        assert rows == [sent.row(self.model.now) for sent in self.model.sent.values()]
        for tenant in TENANTS:
            with tenant_scope(tenant), get_session(self.engine) as session:
                seen = session.execute(
                    text(
                        "select tenant_id, message_id, reply from messages"
                        " where thread_id <> 'crowd' order by seq"
                    )
                )
                assert [tuple(row) for row in seen] == [
                    (*sent.key, sent.reply.text if sent.reply else None)
                    for sent in self.model.sent.values()
                    if sent.key[0] == tenant
                ]
