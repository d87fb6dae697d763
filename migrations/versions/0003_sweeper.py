"""What finds unfinished messages: those whose delivery was lost, and those that workers die of.

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

_FUNCTIONS = ("konstruct_sweep", "konstruct_suspects")

_READ = "tenant_id, message_id, thread_id, deaths, received_at, queued_at"
_RIGHTS = f"select ({_READ}), update (queued_at) on messages"


def upgrade() -> None:
    _make_sweep()
    _make_suspects()
    for function in _FUNCTIONS:
        op.execute(f"revoke all on function {function} from public")
        op.execute(f"grant execute on function {function} to konstruct_system")
    with as_definer():
        for function in _FUNCTIONS:
            op.execute(f"alter function {function} owner to konstruct_definer")


def _make_sweep() -> None:
    # Whoever inserts a message is about to queue it, or was just delivered it.
    op.execute("alter table messages alter column queued_at set default now()")
    op.execute(f"grant {_RIGHTS} to konstruct_definer")
    op.execute("""
        create function konstruct_sweep(
            held bigint, lost_after double precision, suspect_from integer, most integer)
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
            -- What is suspected is worked on without a delivery.
            missing := held < (
                select count(*) from public.messages
                 where status = 'received'
                   and deaths + coalesce((lease_expires_at < now())::int, 0) < suspect_from);
            return query
                with lost as (
                    select m.seq from public.messages m
                     where m.status = 'received'
                       and (m.owner is null or m.lease_expires_at < now())
                       and m.deaths + (m.owner is not null)::int < suspect_from
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


def _make_suspects() -> None:
    op.execute("""
        create function konstruct_suspects(suspect_from integer, most integer)
        returns table (tenant_id text, message_id text, deaths integer)
        language sql stable security definer set search_path = pg_catalog, pg_temp as $$
            select m.tenant_id, m.message_id, m.deaths + (m.owner is not null)::int
              from public.messages m
             where m.status = 'received' and m.deaths + (m.owner is not null)::int >= suspect_from
               and (m.owner is null or m.lease_expires_at < now())
               and not exists (
                   select from public.messages e
                    where e.tenant_id = m.tenant_id and e.thread_id = m.thread_id
                      and e.seq < m.seq and e.status = 'received')
             order by m.seq limit most
        $$
    """)


def downgrade() -> None:
    with as_definer():
        for function in _FUNCTIONS:
            op.execute(f"drop function {function}")
    op.execute(f"revoke {_RIGHTS} from konstruct_definer")
    op.execute("alter table messages alter column queued_at drop default")
