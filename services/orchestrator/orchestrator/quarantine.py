"""Messages that workers died of: one at a time, in a process of its own; parked if that dies too.

A worker that dies takes every message with it that it had under way, and nobody knows which one it was.
So all of them are suspected, and each is tried where it can harm no other. PostgreSQL is the queue:
a suspected message needs no delivery.

Whatever a message does to its process ends it in time: a death parks it, and every other fault is counted
(:mod:`orchestrator.faults`). Only what is no fault of its own is tried again without being counted:
PostgreSQL is away, the worker shuts down, its agent is not in effect here. Each try puts it behind the
others.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from uuid import uuid4

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from orchestrator.agents.catalog import Missing
from orchestrator.isolation import CannotStartError, Isolation, Outcome
from orchestrator.job import Job
from orchestrator.messages import find_reply
from orchestrator.parked import park
from orchestrator.periodic import Periodic
from orchestrator.recording import load, put_off
from orchestrator.runtime import Runtime
from orchestrator.telling import tell
from shared.db import get_session, is_worth_a_retry
from shared.reply import Reason
from shared.rls import tenant_scope

log = logging.getLogger(__name__)

INTERVAL_S = 1.0
"""Seconds between two looks."""

MOST = 100
"""Suspected messages that one look sees: those that have waited longest since they were last looked at."""

AGAIN_S = 2.0
"""Seconds until a message that was looked at, and is not finished, is looked at again."""

GRACE_S = 15.0
"""Seconds beyond a message's own deadline after which its process counts as hung, and is ended."""

_TRY_LOCK = text("select pg_try_advisory_lock(hashtextextended('konstruct.quarantine', 0))")
_UNLOCK = text("select pg_advisory_unlock(hashtextextended('konstruct.quarantine', 0))")
_SUSPECTS = text("select tenant_id, message_id, deaths from konstruct_suspects(:suspect_from, :most)")
_GIVE_BACK = text(
    """
    update messages set owner = null, lease_expires_at = null
     where tenant_id = :tenant_id and message_id = :message_id and owner = :owner and status = 'received'
    """
)


class Quarantine:
    """Works on suspected messages, in a thread of its own. One worker of all does so at a time."""

    def __init__(self, worker: Runtime) -> None:
        """`worker` is whose agents are answered for, and with whose settings."""
        self._worker = worker
        self._owed: list[
            Job
        ] = []  # tried by a process that has lived, and is not known to have given them back
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
        except CannotStartError as error:
            log.error("suspected messages cannot be tried: %s", error)  # noqa: TRY400 - it says it all

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
        self._give_back()
        limit = self._worker.settings.quarantine_after_deaths
        found = connection.execute(_SUSPECTS, {"suspect_from": limit, "most": MOST}).all()
        with ExitStack() as stack:
            isolation: Isolation | None = None
            for tenant_id, message_id, deaths in sorted(found, key=lambda suspect: suspect.deaths <= limit):
                if not self._worker.accepting:
                    return
                with self._counting(tenant_id, message_id):
                    if deaths > limit:
                        self._park(tenant_id, message_id)
                    elif (job := self._job(tenant_id, message_id)) is not None:
                        isolation = isolation or stack.enter_context(Isolation())
                        if self._try(job, isolation) is Outcome.DIED:
                            return  # the next look starts another process

    @contextmanager
    def _counting(self, tenant_id: str, message_id: str) -> Iterator[None]:
        """Look at one message: whatever it does to this, it is counted, and holds up no other."""
        with tenant_scope(tenant_id):
            # First, so that it is behind the others whatever comes of it.
            put_off(tenant_id, message_id, AGAIN_S, back_in_line=False, on=self._worker.engine)
            try:
                yield
            except CannotStartError:
                raise
            except SQLAlchemyError as error:
                if is_worth_a_retry(error):
                    raise
                log.exception("PostgreSQL refuses what is to become of message %s", message_id)
                self._worker.faults.count(tenant_id, message_id)
            except Exception:
                log.exception("message %s could not be looked at", message_id)
                self._worker.faults.count(tenant_id, message_id)

    def _park(self, tenant_id: str, message_id: str) -> None:
        parked = park(tenant_id, message_id, on=self._worker.engine)
        if parked is not None:
            log.error("message %s is parked: processes die of it", message_id)
            tell(parked)
            self._worker.metrics.finished(parked.status, parked.reason)

    def _job(self, tenant_id: str, message_id: str) -> Job | None:
        """Read a message and find its agent; None when it cannot be tried now, or is no message any more."""

        def unreadable(_: str) -> None:
            self._worker.faults.count(tenant_id, message_id, Reason.MESSAGE_INVALID)

        for message, headers in load(tenant_id, [message_id], on=self._worker.engine, unreadable=unreadable):
            agent = self._worker.catalog.look_up(tenant_id, message.agent)
            if agent is not Missing.NOT_YET:  # or later, or by another worker
                return Job.of(message, agent, f"quarantine-{os.getpid()}-{uuid4().hex[:8]}", headers)
        return None

    def _try(self, job: Job, isolation: Isolation) -> Outcome:
        """Answer a message in a process of its own, and count what came of it."""
        message = job.message
        log.warning("trying message %s in a process of its own", message.message_id)
        within_s = self._worker.settings.message_deadline_s + GRACE_S
        outcome = isolation.answer(job, within_s, lambda: self._worker.running.draining)
        if outcome is Outcome.DONE:
            # Its process had no metrics that anybody reads.
            reply = find_reply(message.tenant_id, message.message_id, on=self._worker.engine)
            if reply is not None:
                self._worker.metrics.finished(reply.status, reply.reason)
                return outcome
            log.error("message %s was tried, and is not finished", message.message_id)
        if outcome is Outcome.DIED:
            log.error("the process that tried message %s died", message.message_id)
        else:
            self._owed.append(job)
            self._give_back()
        if outcome is not Outcome.AGAIN:
            # Nothing, if its process died with a claim: when that runs out, it is a death.
            self._worker.faults.count(message.tenant_id, message.message_id)
        return outcome

    def _give_back(self) -> None:
        """Give up the claims of processes that lived and could not: their leases would run out as deaths.

        That is so while PostgreSQL is away, which is why it is tried again before anything is looked at.
        """
        while self._owed:
            job = self._owed[0]
            tenant_id = job.message.tenant_id
            with tenant_scope(tenant_id), get_session(self._worker.engine) as session:
                session.execute(
                    _GIVE_BACK,
                    {"tenant_id": tenant_id, "message_id": job.message.message_id, "owner": job.owner},
                )
            del self._owed[0]
