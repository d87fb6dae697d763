"""The messages table before a claim: recording what was sent, and reading it to queue it again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Engine, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DataError
from sqlalchemy.orm import Session

from orchestrator.errors import MessageConflictError
from shared.db import get_session
from shared.models import KonstructMessage
from shared.reply import MessageStatus
from shared.tables import messages
from shared.tracing import incoming_headers, trace_headers

log = logging.getLogger(__name__)

CONTENT = ("thread_id", "agent", "sender", "channel", "text")
"""What makes two submissions of one id the same message."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A message that is recorded."""

    status: MessageStatus
    """Where it stands."""

    new: bool
    """Whether it was recorded just now."""


def join_thread(session: Session, tenant_id: str, thread_id: str) -> None:
    """Be the only one, until the transaction ends, who gives messages of a thread their place in it.

    A sequence number is then never seen before a lower one of its thread, which is what lets a claim trust
    that nothing earlier is to come.
    """
    thread = f"{tenant_id}/{thread_id}"
    session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(thread, 0))))


def record_message(session: Session, message: KonstructMessage, *, queued: bool = True) -> Recorded:
    """Record `message` unless its id is recorded already.

    Args:
        session: Of the message's tenant.
        message: The message.
        queued: Whether the caller has a delivery of it, or makes one; otherwise it waits in line for one.

    Raises:
        MessageConflictError: another message was recorded under this id.
    """
    join_thread(session, message.tenant_id, message.thread_id)
    values = message.model_dump(include={"tenant_id", "message_id", "sent_at", *CONTENT})
    values["traceparent"] = trace_headers().get("traceparent")
    if not queued:
        values["queued_at"] = None
    inserting = insert(messages).values(values).on_conflict_do_nothing().returning(messages.c.seq)
    if session.execute(inserting).one_or_none() is not None:
        return Recorded(MessageStatus.RECEIVED, new=True)
    status = find_recorded(session, message)
    if status is None:
        raise RuntimeError("a message whose id is taken cannot be read")
    return Recorded(status, new=False)


def find_recorded(session: Session, message: KonstructMessage) -> MessageStatus | None:
    """Return where `message` stands; None if it was never recorded.

    Raises:
        MessageConflictError: another message was recorded under this id.
    """
    row = session.execute(
        select(messages.c.status, *(messages.c[name] for name in CONTENT)).where(
            messages.c.tenant_id == message.tenant_id, messages.c.message_id == message.message_id
        )
    ).one_or_none()
    if row is None:
        return None
    if any(getattr(row, name) != getattr(message, name) for name in CONTENT):
        raise MessageConflictError(
            f"message id {message.message_id} is taken by another message; send this one with a new id"
        )
    return MessageStatus(row.status)


def is_recorded(message: KonstructMessage, *, on: Engine | None = None) -> bool:
    """Whether this very message is recorded, rather than none, or another under its id."""
    try:
        with get_session(on) as session:
            return find_recorded(session, message) is not None
    except MessageConflictError:
        return False


def put_in_line(message: KonstructMessage, *, after_s: float | None = None, on: Engine | None = None) -> bool:
    """Let `message` wait for its turn to be queued: in its place, or, `after_s` seconds from now, anew.

    Returns False when there is no such message that nobody works on.
    """
    due: dict[str, Any] = {}
    if after_s is not None:
        due["due_at"] = func.now() + timedelta(seconds=after_s)
    with get_session(on) as session:
        waiting = session.execute(
            update(messages)
            .where(
                messages.c.tenant_id == message.tenant_id,
                messages.c.message_id == message.message_id,
                messages.c.status == MessageStatus.RECEIVED,
                messages.c.owner.is_(None),
            )
            .values(queued_at=None, **due)
            .returning(messages.c.seq)
        )
        return waiting.one_or_none() is not None


def put_off(
    tenant_id: str, message_id: str, after_s: float, *, back_in_line: bool, on: Engine | None = None
) -> None:
    """Let an unfinished message that nobody works on come `after_s` seconds from now, behind the others.

    `back_in_line`: whether it has no delivery, although it counts as queued.
    """
    waits = {"queued_at": None} if back_in_line else {}
    with get_session(on) as session:
        session.execute(
            update(messages)
            .where(
                messages.c.tenant_id == tenant_id,
                messages.c.message_id == message_id,
                messages.c.status == MessageStatus.RECEIVED,
                or_(messages.c.owner.is_(None), messages.c.lease_expires_at < func.now()),
            )
            .values(due_at=func.now() + timedelta(seconds=after_s), **waits)
        )


def load(
    tenant_id: str,
    message_ids: Sequence[str],
    *,
    on: Engine | None = None,
    unreadable: Callable[[str], None] | None = None,
) -> list[tuple[KonstructMessage, dict[str, str]]]:
    """Read unfinished messages as they were recorded, in the order received, with their traces' headers.

    A row may not be a message any more: another version wrote it, or somebody has edited it. `unreadable` is
    told its id, and the others are returned.

    Raises:
        ValidationError, DataError: there is such a row, and no `unreadable`.
    """
    try:
        with get_session(on) as session:
            rows = session.execute(
                select(messages.c.traceparent, *(messages.c[name] for name in KonstructMessage.model_fields))
                .where(
                    messages.c.tenant_id == tenant_id,
                    messages.c.message_id.in_(message_ids),
                    messages.c.status == MessageStatus.RECEIVED,
                )
                .order_by(messages.c.seq)
            )
            found = [row._asdict() for row in rows]
    except DataError:  # a value that PostgreSQL has and Python has not, in one of the rows
        if unreadable is None:
            raise
        if len(message_ids) == 1:
            log.warning("message %s cannot be read from PostgreSQL", message_ids[0])
            unreadable(message_ids[0])
            return []
        return [
            each
            for message_id in message_ids
            for each in load(tenant_id, [message_id], on=on, unreadable=unreadable)
        ]
    loaded = []
    for values in found:
        try:
            loaded.append(_with_headers(values))
        except ValidationError as error:
            if unreadable is None:
                raise
            fields = sorted(
                {str(each["loc"][0]) for each in error.errors(include_input=False) if each["loc"]}
            )
            log.warning("message %s, as recorded, is none: %s", values["message_id"], ", ".join(fields))
            unreadable(values["message_id"])
    return loaded


def _with_headers(values: dict[str, Any]) -> tuple[KonstructMessage, dict[str, str]]:
    headers = incoming_headers({"traceparent": values.pop("traceparent")})
    return KonstructMessage.model_validate(values), headers
