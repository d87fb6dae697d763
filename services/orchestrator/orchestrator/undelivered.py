"""Messages that are recorded and have no delivery: noting that, and reading them to queue them again."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Engine, select, update

from shared.db import get_session
from shared.models import KonstructMessage
from shared.reply import MessageStatus
from shared.tables import messages


def note_unqueued(message: KonstructMessage, *, on: Engine | None = None) -> None:
    """Note that `message` is recorded and could not be queued."""
    with get_session(on) as session:
        session.execute(
            update(messages)
            .where(
                messages.c.tenant_id == message.tenant_id,
                messages.c.message_id == message.message_id,
                messages.c.status == MessageStatus.RECEIVED,
            )
            .values(queued_at=None)
        )


def load(tenant_id: str, message_ids: Sequence[str], *, on: Engine | None = None) -> list[KonstructMessage]:
    """Read unfinished messages as they were recorded, in the order received."""
    with get_session(on) as session:
        rows = session.execute(
            select(*(messages.c[name] for name in KonstructMessage.model_fields))
            .where(
                messages.c.tenant_id == tenant_id,
                messages.c.message_id.in_(message_ids),
                messages.c.status == MessageStatus.RECEIVED,
            )
            .order_by(messages.c.seq)
        )
        return [KonstructMessage.model_validate(row._asdict()) for row in rows]
