"""Messages, agents and their revisions, with roles and row level security.

Revision ID: 0001
Revises:
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from shared.definer import as_definer

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = ("messages", "agent_revisions", "agents")
GRANTS = {
    "messages": "select, insert, update",
    "agent_revisions": "select, insert",
    "agents": "select, insert, update",
}


def upgrade() -> None:
    _make_tables()
    _make_roles()
    for table in TABLES:
        op.execute(f"alter table {table} enable row level security")
        # FORCE: the owner is held back too; nobody but a superuser is not.
        op.execute(f"alter table {table} force row level security")
        # Unset after a transaction, the setting reads '': nullif keeps that from being a tenant.
        op.execute(
            f"create policy tenant_isolation on {table} to konstruct_service"
            " using (tenant_id = nullif(current_setting('app.tenant_id', true), ''))"
            " with check (tenant_id = nullif(current_setting('app.tenant_id', true), ''))"
        )
        op.execute(f"grant {GRANTS[table]} on {table} to konstruct_service")
    _make_system_functions()


def _make_tables() -> None:
    now = sa.func.now()
    stamp = sa.DateTime(timezone=True)
    op.create_table(
        "messages",
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("message_id", sa.Text, nullable=False),
        sa.Column("seq", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("thread_id", sa.Text, nullable=False),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("sender", sa.Text, nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("sent_at", stamp, nullable=False),
        sa.Column("received_at", stamp, nullable=False, server_default=now),
        sa.Column("status", sa.Text, nullable=False, server_default="received"),
        sa.Column("owner", sa.Text),
        sa.Column("lease_expires_at", stamp),
        sa.Column("attempt", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("deaths", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("errors", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("queued_at", stamp),
        sa.Column("started_at", stamp),
        sa.Column("finished_at", stamp),
        sa.Column("reply", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("revision", sa.Text),
        sa.Column("requested_group", sa.Text),
        sa.Column("served_group", sa.Text),
        sa.Column("model", sa.Text),
        sa.Column("degraded", sa.Boolean),
        sa.Column("fallback_reason", sa.Text),
        sa.Column("prompt_tokens", sa.Integer),
        sa.Column("completion_tokens", sa.Integer),
        sa.Column("cost_usd", sa.Numeric(14, 8)),
        sa.Column("pool_latency_ms", sa.Float),
        sa.Column("pool_attempts", JSONB),
        sa.Column("prompt_sha256", sa.Text),
        sa.Column("transparency_clause", sa.Text),
        sa.PrimaryKeyConstraint("tenant_id", "message_id"),
        sa.CheckConstraint("status in ('received', 'answered', 'apologised', 'failed')", name="status_known"),
        sa.CheckConstraint("(status = 'received') = (finished_at is null)", name="finished_has_time"),
        sa.CheckConstraint("(owner is null) = (lease_expires_at is null)", name="owner_has_lease"),
    )
    unfinished = sa.text("status = 'received'")
    op.create_index("messages_thread", "messages", ["tenant_id", "thread_id", "seq"])
    op.create_index(
        "messages_unfinished_thread",
        "messages",
        ["tenant_id", "thread_id", "seq"],
        postgresql_where=unfinished,
    )
    op.create_index("messages_seq", "messages", ["seq"], unique=True)
    op.create_index("messages_waiting", "messages", ["received_at"], postgresql_where=unfinished)
    op.create_table(
        "agent_revisions",
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("revision", sa.Text, nullable=False),
        sa.Column("identity_json", sa.Text, nullable=False),
        sa.Column("persona_json", sa.Text, nullable=False),
        sa.Column("prompt_sha256", sa.Text, nullable=False),
        sa.Column("transparency_clause", sa.Text, nullable=False),
        sa.Column("first_used_at", stamp, nullable=False, server_default=now),
        sa.PrimaryKeyConstraint("tenant_id", "agent", "revision", "transparency_clause"),
    )
    op.create_table(
        "agents",
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("active_revision", sa.Text, nullable=False),
        sa.Column("since", stamp, nullable=False, server_default=now),
        sa.PrimaryKeyConstraint("tenant_id", "agent"),
    )


def _make_roles() -> None:
    """Make the group roles. Logins are given them by ``konstruct-migrate``.

    Roles belong to the whole server and may be there already, from another installation.
    """
    op.execute("select pg_advisory_xact_lock(hashtextextended('konstruct.roles', 0))")
    for role in ("konstruct_service", "konstruct_system", "konstruct_definer"):
        op.execute(
            f"do $$ begin if not exists (select from pg_roles where rolname = '{role}')"
            f" then create role {role} nologin; end if; end $$"
        )
        op.execute(f"grant usage on schema public to {role}")


def _make_system_functions() -> None:
    """Make what must see across tenants: as little as can be, owned by a role nobody logs in as."""
    op.execute("create policy across_tenants on messages to konstruct_definer using (true) with check (true)")
    op.execute("grant select (seq, owner, status, lease_expires_at) on messages to konstruct_definer")
    op.execute("grant update (lease_expires_at) on messages to konstruct_definer")
    op.execute("""
        create function konstruct_extend_leases(worker text, held bigint[], seconds double precision)
        returns bigint
        language sql security definer set search_path = pg_catalog, pg_temp as $$
            with extended as (
                update public.messages set lease_expires_at = now() + make_interval(secs => seconds)
                where owner = worker and seq = any (held) and status = 'received' returning 1
            )
            select count(*) from extended
        $$
    """)
    op.execute("revoke all on function konstruct_extend_leases from public")
    op.execute("grant execute on function konstruct_extend_leases to konstruct_system")
    with as_definer():
        op.execute("alter function konstruct_extend_leases owner to konstruct_definer")


def downgrade() -> None:
    with as_definer():
        op.execute("drop function konstruct_extend_leases")
    for table in TABLES:
        op.drop_table(table)
    # The roles stay: another installation on the same server may use them.
