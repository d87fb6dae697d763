"""The line in PostgreSQL: recording messages that wait there, and what sweeper and dispatcher ask of it."""

from __future__ import annotations

from sqlalchemy import Engine, text

from orchestrator.recording import record_message
from shared.db import get_session
from shared.models import KonstructMessage
from shared.rls import tenant_scope
from tests.support.database import Database


def record(engine: Engine, *names: str, thread: str | None = None) -> list[KonstructMessage]:
    """Record messages that wait in line: ``a1`` is tenant a's."""
    made = [
        KonstructMessage(
            tenant_id=name[0], message_id=name, thread_id=thread or name, agent="ada", sender="sam", text="hi"
        )
        for name in names
    ]
    for message in made:
        with tenant_scope(message.tenant_id), get_session(engine) as session:
            record_message(session, message, queued=False)
    return made


def dispatch(system_engine: Engine, *, free: int, per_tenant: int = 100, most: int = 100) -> list[str]:
    """Mark as queued what a dispatcher would queue next, and return its ids in order."""
    call = text("select message_id from konstruct_dispatch(:free, :per_tenant, 2, :most)")
    with system_engine.begin() as connection:
        values = {"free": free, "per_tenant": per_tenant, "most": most}
        return list(connection.execute(call, values).scalars())


def reclaim(system_engine: Engine, *, held: int = 1000) -> int:
    """Put what has lost its delivery back in line, as a sweeper that sees `held` deliveries would."""
    with system_engine.begin() as connection:
        return int(
            connection.execute(text("select konstruct_reclaim(:n, 5, 2, 100)"), {"n": held}).scalar_one()
        )


def fill(database: Database, threads: str) -> None:
    """Record a message in line for each (tenant, thread) that the query `threads` gives, in its order."""
    database.execute(f"""
        insert into messages (tenant_id, thread_id, message_id, agent, sender, channel, text,
            sent_at, queued_at)
        select t.tenant_id, t.thread_id, 'm' || t.place, 'ada', 'sam', 'api', 'hi', now(), null
          from (select *, row_number() over () as place from ({threads}) given (tenant_id, thread_id)) t
         order by t.place
    """)


def stranded(system_engine: Engine) -> list[str]:
    """Find the messages that nothing will ever touch."""
    with system_engine.begin() as connection:
        return list(connection.execute(text("select message_id from konstruct_stranded(2, 60)")).scalars())
