"""How long the message has waited that has waited longest: what ``konstruct status`` shows.

Revision ID: 0011
Revises: 0010
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shared.definer import as_definer

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # `seq > 0` holds for every message, and no other query says it: one that counts what waits would take
    # this index and read every unfinished message.
    op.create_index(
        "messages_oldest",
        "messages",
        ["received_at"],
        postgresql_where=sa.text("status = 'received' and seq > 0"),
    )
    op.execute("""
        create function konstruct_oldest_wait() returns double precision
        language sql stable security definer set search_path = pg_catalog, pg_temp as $$
            -- In the order of the index: it passes over what workers are at, and reads no further.
            select greatest(extract(epoch from now() - m.received_at), 0)::double precision
              from public.messages m
             where m.status = 'received' and m.seq > 0
               and (m.owner is null or m.lease_expires_at < now())
             order by m.received_at
             limit 1
        $$
    """)
    op.execute("revoke all on function konstruct_oldest_wait from public")
    op.execute("grant execute on function konstruct_oldest_wait to konstruct_system")
    with as_definer():
        op.execute("alter function konstruct_oldest_wait owner to konstruct_definer")


def downgrade() -> None:
    with as_definer():
        op.execute("drop function konstruct_oldest_wait")
    op.drop_index("messages_oldest", "messages")
