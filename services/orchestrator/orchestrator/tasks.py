"""The task ``handle_message``: one message in, one recorded reply out.

The task is a sync ``def`` that calls ``asyncio.run``; never ``async def``, which Celery would not await.
``_process_message`` is the list of steps that later phases extend (memory, tools).
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import Any

from celery import Task
from celery.exceptions import Ignore, Reject
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from orchestrator import messages, tracing
from orchestrator.agents.answers import RunResult
from orchestrator.agents.builder import build_request
from orchestrator.agents.catalog import Missing, ServedAgent
from orchestrator.agents.runner import request_timeout_s
from orchestrator.broker import AWAY
from orchestrator.errors import HandBackError, MessageConflictError, PutBackError, QuarantinedError
from orchestrator.faults import record_fault
from orchestrator.invalid import record_invalid
from orchestrator.main import TASK_NAME, app, hidden
from orchestrator.messages import Busy, Claim, Suspect
from orchestrator.metrics import NOT_SIGNED
from orchestrator.recording import is_recorded, put_in_line
from orchestrator.replies import apologise, failed, reply_from
from orchestrator.runtime import Runtime
from orchestrator.telling import tell
from orchestrator.worker import runtime
from shared.contract import MESSAGE_ID_HEADER, REVISION_HEADER
from shared.db import is_worth_a_retry
from shared.models import KonstructMessage
from shared.reply import Reason, Reply
from shared.rls import tenant_scope
from shared.tracing import kept_trace_id

log = logging.getLogger(__name__)

PUT_BACK_HEADER = "konstruct_put_back"
"""Header of a delivery: how often it was put back."""

FIRST_DELAY_S = 0.1
"""Delay of the first put-back; it doubles with each."""

LONGEST_DELAY_S = 2.0
"""Longest delay of a put-back."""

MOST_PUT_BACKS = 3
"""Put-backs, within a second, after which a message waits its turn again: others need its place in Redis."""


@app.task(name=TASK_NAME, bind=True)
def handle_message(self: Task[..., dict[str, Any]], payload: dict[str, Any]) -> dict[str, Any]:
    """Answer a message (a KonstructMessage as JSON) and return its Reply as JSON.

    However often a message is delivered, it has one reply. A delivery that cannot be finished is put
    back, never acknowledged away: it may be the broker's only copy.
    """
    worker = runtime()
    worker.hearing.took()
    with tracing.handling(self.request.headers):
        if (fault := worker.signing.fault(payload, self.request.headers or {})) is not None:
            # Nothing is recorded, not even a failure: it may name a tenant and a message that are real.
            log.warning("a delivery was refused: %s", fault)
            worker.metrics.refuse(NOT_SIGNED)
            raise Ignore("not signed")
        try:
            reply = run_steps(payload, worker)
        except HandBackError as error:
            raise Reject(str(error), requeue=True) from None
        except QuarantinedError as error:
            raise Ignore(str(error)) from None
        except PutBackError as error:
            _put_back(self, payload, error.delay_s, worker)
            raise Ignore(str(error)) from None
        except Exception as error:
            # Celery would acknowledge a task that raises, and the message with it.
            log.exception("a delivery failed and is put back")
            if (given_up := record_fault(payload, worker)) is not None:
                return given_up.model_dump(mode="json")
            _put_back(self, payload, LONGEST_DELAY_S, worker)
            raise Ignore(type(error).__name__) from None
    return reply.model_dump(mode="json")


def run_steps(payload: Any, worker: Runtime) -> Reply:
    """Take a delivery (a KonstructMessage as JSON) through its steps, on a loop of its own.

    Raises:
        DeliveryError: it is not finished; the class says what becomes of the delivery.
    """
    return asyncio.run(_process_message(payload, worker))


async def _process_message(payload: Any, worker: Runtime) -> Reply:
    """Take one message through its steps."""
    started = time.monotonic()
    try:
        message = KonstructMessage.model_validate(payload)
    except ValidationError as error:
        return record_invalid(payload, error, worker)

    tracing.describe_message(message)
    with tenant_scope(message.tenant_id), worker.running.register():
        _agent(message, worker)  # before the claim: no other worker waits for what is put back here
        with tracing.step("claim"):
            held = _claim(message, worker)
        if isinstance(held, Reply):
            return held
        worker.dispatcher.claimed()
        with worker.running.holding(held.seq):
            try:
                agent = _agent(message, worker)
                result = await _answer(message, held, agent, worker)
                with tracing.step("record"):
                    reply = _record(message, held, agent, result, worker)
            except BaseException:
                _give_up(message, held, worker)
                raise
    seconds = time.monotonic() - started
    _count(reply, held, seconds, worker)
    tell(reply, result, held, seconds=seconds)
    return reply


def _agent(message: KonstructMessage, worker: Runtime) -> ServedAgent | Reason:
    """Find the message's agent, as it is in effect now, or why the message fails.

    Raises:
        PutBackError: this worker cannot tell now; another one, or it later, can.
    """
    agent = worker.catalog.look_up(message.tenant_id, message.agent)
    # Asked after the look: what was found while the answer is yes is what the proof says of this worker.
    if not worker.source.accepting():
        raise PutBackError("this worker's agents may be out of date")
    if agent is Missing.NOT_YET:
        raise PutBackError("the agent is not in effect here yet")
    if agent is Missing.UNKNOWN:
        return Reason.AGENT_UNKNOWN
    if agent is Missing.SUSPENDED or agent.suspended:
        return Reason.AGENT_SUSPENDED
    return agent


def _claim(message: KonstructMessage, worker: Runtime) -> Claim | Reply:
    """Claim the message, or tell why there is nothing left to do.

    Raises:
        PutBackError: it is not this delivery's turn, or PostgreSQL is away.
        QuarantinedError: it is worked on without a delivery.
    """
    try:
        held = messages.claim(
            message, worker.owner, worker.settings.lease_s, worker.suspect_from, on=worker.engine
        )
    except MessageConflictError:
        return _refuse(message, Reason.MESSAGE_CONFLICT, worker)
    except SQLAlchemyError as error:
        log.warning("message %s cannot be claimed: %s", message.message_id, type(error).__name__)
        if not is_worth_a_retry(error):
            if is_recorded(message, on=worker.engine):
                raise  # a fault, which is counted: it was accepted, and must end
            return _refuse(message, Reason.MESSAGE_INVALID, worker)
        raise PutBackError("the database is away", delay_s=LONGEST_DELAY_S) from None
    if isinstance(held, Busy):
        raise PutBackError(held.why)
    if isinstance(held, Suspect):
        raise QuarantinedError("workers died of it")
    return held


def _refuse(message: KonstructMessage, reason: Reason, worker: Runtime) -> Reply:
    """Tell of a message that has no row of its own, and make its reply."""
    reply = failed(message, reason)
    worker.metrics.refuse(reason)
    tell(reply)
    return reply


async def _answer(
    message: KonstructMessage, held: Claim, agent: ServedAgent | Reason, worker: Runtime
) -> RunResult:
    """Ask the model, within the message's deadline. Every failure is a result."""
    settings = worker.settings
    if isinstance(agent, Reason):
        return apologise(agent)
    try:
        request = build_request(
            agent,
            held.history,
            message,
            history_token_budget=settings.history_token_budget,
            max_tokens=settings.reply_max_tokens,
            timeout_s=request_timeout_s(settings.message_deadline_s),
        )
        async with asyncio.timeout(settings.message_deadline_s):
            return await worker.runner.run(
                request, {MESSAGE_ID_HEADER: message.message_id, REVISION_HEADER: agent.revision}
            )
    except TimeoutError:
        return apologise(Reason.DEADLINE_EXCEEDED)
    except Exception:
        log.exception("message %s could not be answered", message.message_id)
        return apologise(Reason.INTERNAL_ERROR)


def _record(
    message: KonstructMessage, held: Claim, agent: ServedAgent | Reason, result: RunResult, worker: Runtime
) -> Reply:
    """Record the reply, and the revision that it spoke from, and return it.

    Raises:
        PutBackError: another worker took the message over, or PostgreSQL is away.
    """
    asked = agent if isinstance(agent, ServedAgent) else None
    reply = reply_from(message, asked, result)
    try:
        if asked is not None and reply.revision is not None:
            worker.revisions.record(asked)
        recorded = messages.record_reply(
            reply, held, result.envelope or result.problem, trace_id=kept_trace_id(), on=worker.engine
        )
    except SQLAlchemyError as error:
        log.warning("the reply to %s cannot be recorded: %s", held.message_id, type(error).__name__)
        if not is_worth_a_retry(error):
            # PostgreSQL refuses what was to be said, and would again: a plain apology takes its place.
            plain = apologise(Reason.INTERNAL_ERROR)
            if result == plain:
                raise  # a fault, which is counted
            return _record(message, held, agent, plain, worker)
        raise PutBackError("the database is away", delay_s=LONGEST_DELAY_S) from None
    if not recorded:
        raise PutBackError("another worker took the message over")
    return reply


def _give_up(message: KonstructMessage, held: Claim, worker: Runtime) -> None:
    """Release the claim; if that fails the lease runs out by itself."""
    try:
        messages.release(message.tenant_id, held, on=worker.engine)
    except SQLAlchemyError as error:
        log.warning("the claim on %s cannot be released: %s", held.message_id, type(error).__name__)


def _count(reply: Reply, held: Claim, seconds: float, worker: Runtime) -> None:
    worker.metrics.finished(reply.status, reply.reason)
    worker.metrics.queue.observe(max(held.queue_seconds, 0.0))
    worker.metrics.duration.observe(seconds)


def _put_back(task: Task[..., dict[str, Any]], payload: Any, delay_s: float | None, worker: Runtime) -> None:
    """Publish the delivery again with a delay, or have its message wait its turn; this one is then let go.

    Raises:
        Reject: Redis took no copy. This delivery is returned instead.
    """
    worker.metrics.put_back.inc()
    headers = task.request.headers or {}
    before = int(headers.get(PUT_BACK_HEADER, 0))
    if before >= MOST_PUT_BACKS and _waits_in_line(payload, worker):
        return
    delay = delay_s or min(FIRST_DELAY_S * 2.0**before, LONGEST_DELAY_S)
    try:
        app.send_task(
            TASK_NAME,
            args=(payload,),
            task_id=task.request.id,
            # Spread, so that what waited for the same thing does not come back at once.
            countdown=delay * random.uniform(0.75, 1.25),  # noqa: S311 - no secret
            headers={
                PUT_BACK_HEADER: str(min(before + 1, 16)),
                **tracing.onward_headers(headers),
                **worker.signing.onward(payload, headers),
            },
            argsrepr=hidden(payload),
        )
    except AWAY as failure:
        log.warning("a delivery could not be put back: %s", type(failure).__name__)
        raise Reject("put back", requeue=True) from None


def _waits_in_line(payload: Any, worker: Runtime) -> bool:
    """Let the message wait in PostgreSQL rather than in Redis; return whether it does."""
    try:
        message = KonstructMessage.model_validate(payload)
        with tenant_scope(message.tenant_id):
            return put_in_line(message, after_s=LONGEST_DELAY_S, on=worker.engine)
    except (ValidationError, SQLAlchemyError) as error:
        log.debug("a delivery stays in Redis: %s", type(error).__name__)
        return False
