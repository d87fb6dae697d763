"""Messages that workers died of: one at a time, in a process of its own; parked if that dies too.

A worker that dies takes every message with it that it had under way, and nobody knows which one it was.
So all of them are suspected, and each is tried where it can harm no other. PostgreSQL is the queue:
a suspected message needs no delivery.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from orchestrator.agents.catalog import Missing
from orchestrator.isolation import Isolation, Outcome
from orchestrator.job import Job
from orchestrator.messages import find_reply
from orchestrator.parked import park
from orchestrator.periodic import Periodic
from orchestrator.recording import load
from orchestrator.runtime import Runtime
from orchestrator.telling import tell
from shared.models import KonstructMessage
from shared.rls import tenant_scope

log = logging.getLogger(__name__)

INTERVAL_S = 1.0
"""Seconds between two looks."""

MOST = 100
"""Suspected messages that one look sees, the oldest first."""

GRACE_S = 15.0
"""Seconds beyond a message's own deadline after which its process counts as hung, and is ended."""

_TRY_LOCK = text("select pg_try_advisory_lock(hashtextextended('konstruct.quarantine', 0))")
_UNLOCK = text("select pg_advisory_unlock(hashtextextended('konstruct.quarantine', 0))")
_SUSPECTS = text("select tenant_id, message_id, deaths from konstruct_suspects(:suspect_from, :most)")


class Quarantine:
    """Works on suspected messages, in a thread of its own. One worker of all does so at a time."""

    def __init__(self, worker: Runtime) -> None:
        """`worker` is whose agents are answered for, and with whose settings."""
        self._worker = worker
        self._periodic = Periodic("quarantine", INTERVAL_S, self._look)

    def start(self) -> None:
        """Begin."""
        self._periodic.start()

    def stop(self) -> None:
        """End. A process under way has been told to end when the worker began to."""
        self._periodic.stop()

    def _look(self) -> None:
        if not self._worker.accepting:
            return
        try:
            with self._alone() as connection:
                if connection is not None:
                    self._work(connection)
        except SQLAlchemyError as error:
            log.warning("suspected messages cannot be looked at: %s", type(error).__name__)

    @contextmanager
    def _alone(self) -> Iterator[Connection | None]:
        """Hold a lock that no other worker has; None when one has it."""
        engine = self._worker.system_engine.execution_options(isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            if not connection.execute(_TRY_LOCK).scalar():
                yield None
                return
            try:
                yield connection
            finally:
                connection.execute(_UNLOCK)

    def _work(self, connection: Connection) -> None:
        """Park what died in quarantine, and try the others, one after the other."""
        limit = self._worker.settings.quarantine_after_deaths
        found = connection.execute(_SUSPECTS, {"suspect_from": limit, "most": MOST}).all()
        hopeful = []
        for tenant_id, message_id, deaths in found:
            if deaths > limit:
                self._park(tenant_id, message_id)
            else:
                hopeful.append((tenant_id, message_id))
        if hopeful:
            with Isolation() as isolation:
                for tenant_id, message_id in hopeful:
                    # Once it is dead, the next look starts another.
                    if not self._worker.accepting or not self._try(tenant_id, message_id, isolation):
                        return

    def _park(self, tenant_id: str, message_id: str) -> None:
        with tenant_scope(tenant_id):
            parked = park(tenant_id, message_id, on=self._worker.engine)
        if parked is not None:
            log.error("message %s is parked: processes die of it", message_id)
            tell(parked)
            self._worker.metrics.finished(parked.status, parked.reason)

    def _try(self, tenant_id: str, message_id: str, isolation: Isolation) -> bool:
        """Answer a message in a process of its own, if that can be now; return whether no process died."""
        with tenant_scope(tenant_id):
            messages = load(tenant_id, [message_id], on=self._worker.engine)
        for message, headers in messages:
            agent = self._worker.catalog.look_up(tenant_id, message.agent)
            if agent is Missing.NOT_YET:
                continue  # later, or by another worker
            log.warning("trying message %s in a process of its own", message_id)
            job = Job.of(message, agent, f"quarantine-{os.getpid()}-{uuid4().hex[:8]}", headers)
            within_s = self._worker.settings.message_deadline_s + GRACE_S
            outcome = isolation.answer(job, within_s, lambda: self._worker.running.draining)
            if outcome is Outcome.DONE:
                self._count(message)
            elif outcome is Outcome.DIED:
                log.error("the process that tried message %s died", message_id)
                return False
        return True

    def _count(self, message: KonstructMessage) -> None:
        """Count what became of a message: its process had no metrics that anybody reads."""
        reply = find_reply(message.tenant_id, message.message_id, on=self._worker.engine)
        if reply is not None:
            self._worker.metrics.finished(reply.status, reply.reason)
