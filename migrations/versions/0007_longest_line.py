"""How long the line of the tenant is that has the longest: from some length on its messages are refused.

Revision ID: 0007
Revises: 0006
"""

from __future__ import annotations

from alembic import op

from shared.definer import as_definer

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        create function konstruct_longest_line() returns bigint
        language sql stable security definer set search_path = pg_catalog, pg_temp as $$
            select coalesce(max(line.length), 0)
              from (select count(*) as length from public.messages
                     where status = 'received' and queued_at is null
                     group by tenant_id) line
        $$
    """)
    op.execute("revoke all on function konstruct_longest_line from public")
    op.execute("grant execute on function konstruct_longest_line to konstruct_system")
    with as_definer():
        op.execute("alter function konstruct_longest_line owner to konstruct_definer")


def downgrade() -> None:
    with as_definer():
        op.execute("drop function konstruct_longest_line")
