"""What finds unfinished messages whose delivery was lost.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

from alembic import op

from shared.definer import as_definer

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_RIGHTS = "select (tenant_id, message_id, queued_at, received_at), update (queued_at) on messages"


def upgrade() -> None:
    # Whoever inserts a message is about to queue it, or was just delivered it.
    op.execute("alter table messages alter column queued_at set default now()")
    op.execute(f"grant {_RIGHTS} to konstruct_definer")
    op.execute("""
        create function konstruct_sweep(held bigint, lost_after double precision, most integer)
        returns table (tenant_id text, message_id text)
        language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
        #variable_conflict use_column
        declare
            earlier timestamptz := now() - make_interval(secs => lost_after);
            missing boolean;
        begin
            -- One sweeper at a time, without waiting for another.
            if not pg_try_advisory_xact_lock(hashtextextended('konstruct.sweeper', 0)) then
                return;
            end if;
            missing := (select count(*) from public.messages where status = 'received') > held;
            return query
                with lost as (
                    select m.seq from public.messages m
                     where m.status = 'received'
                       and (m.owner is null or m.lease_expires_at < now())
                       and case
                           -- its worker fell silent after it was last queued
                           when m.lease_expires_at > m.queued_at then true
                           -- it could not be queued
                           when m.queued_at is null then m.received_at < earlier
                           -- there are fewer deliveries than messages
                           else missing and m.queued_at < earlier
                       end
                     order by m.seq limit most
                       for update skip locked
                )
                update public.messages m set queued_at = now()
                  from lost where m.seq = lost.seq
                returning m.tenant_id, m.message_id;
        end $$
    """)
    op.execute("revoke all on function konstruct_sweep from public")
    op.execute("grant execute on function konstruct_sweep to konstruct_system")
    with as_definer():
        op.execute("alter function konstruct_sweep owner to konstruct_definer")


def downgrade() -> None:
    with as_definer():
        op.execute("drop function konstruct_sweep")
    op.execute(f"revoke {_RIGHTS} from konstruct_definer")
    op.execute("alter table messages alter column queued_at drop default")
