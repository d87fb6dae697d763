"""Deleting what has been kept for long enough: finished messages, and documents that nobody speaks from.

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

from alembic import op

from shared.definer import as_definer

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_OTHERS = ("agent_revisions", "agents")
"""Tables that the definer had nothing to do with before."""

_RIGHTS = (
    "select (tenant_id, finished_at), delete on messages",
    "select (tenant_id, agent, revision, last_used_at), delete on agent_revisions",
    "select (tenant_id, agent, active_revision), delete on agents",
)


def upgrade() -> None:
    op.execute("alter table agent_revisions add column last_used_at timestamptz not null default now()")
    op.execute("grant update (last_used_at) on agent_revisions to konstruct_service")
    op.execute("create index messages_finished on messages (finished_at) where finished_at is not null")
    for table in _OTHERS:
        op.execute(
            f"create policy across_tenants on {table} to konstruct_definer using (true) with check (true)"
        )
    for right in _RIGHTS:
        op.execute(f"grant {right} to konstruct_definer")
    _make_purge()
    op.execute("revoke all on function konstruct_purge from public")
    op.execute("grant execute on function konstruct_purge to konstruct_system")
    with as_definer():
        op.execute("alter function konstruct_purge owner to konstruct_definer")


def _make_purge() -> None:
    op.execute("""
        create function konstruct_purge(of_tenant text, older_than double precision, most integer)
        returns table (messages bigint, revisions bigint)
        language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
        declare
            -- A copy of a delivery may still be on its way for as long, and would be taken for a new message.
            before timestamptz := now() - make_interval(secs => greatest(older_than, 3600));
        begin
            messages := 0;
            revisions := 0;
            -- One at a time, without waiting for another.
            if not pg_try_advisory_xact_lock(hashtextextended('konstruct.purge', 0)) then
                return next;
                return;
            end if;
            with old as (
                select m.seq from public.messages m
                 where m.finished_at < before and (of_tenant is null or m.tenant_id = of_tenant)
                 order by m.finished_at limit most for update skip locked
            )
            delete from public.messages m using old where m.seq = old.seq;
            get diagnostics messages = row_count;
            if messages < most then
                -- What speaks from one notes it four times an hour: nothing that is left came from these.
                delete from public.agent_revisions r
                 where r.last_used_at < before - interval '1 hour'
                   and (of_tenant is null or r.tenant_id = of_tenant);
                get diagnostics revisions = row_count;
                if revisions > 0 then
                    delete from public.agents a
                     where (of_tenant is null or a.tenant_id = of_tenant)
                       and not exists (
                           select from public.agent_revisions r
                            where r.tenant_id = a.tenant_id and r.agent = a.agent
                              and r.revision = a.active_revision);
                end if;
            end if;
            return next;
        end $$
    """)


def downgrade() -> None:
    with as_definer():
        op.execute("drop function konstruct_purge")
    for right in _RIGHTS:
        op.execute(f"revoke {right} from konstruct_definer")
    # Taken back with the rest, but needed by what was there before.
    op.execute("grant select (tenant_id) on messages to konstruct_definer")
    for table in _OTHERS:
        op.execute(f"drop policy across_tenants on {table}")
    op.execute("drop index messages_finished")
    op.execute("alter table agent_revisions drop column last_used_at")
