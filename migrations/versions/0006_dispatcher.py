"""PostgreSQL as the backlog: what puts waiting messages into the queue, fairly between tenants.

Revision ID: 0006
Revises: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shared.definer import as_definer

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_FUNCTIONS = ("konstruct_dispatch", "konstruct_reclaim", "konstruct_backlog")

_RIGHTS = "select (due_at) on messages"


def upgrade() -> None:
    op.add_column(
        "messages",
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
    )
    # It would be taken for the counts below, and reads every unfinished message.
    op.drop_index("messages_waiting", "messages")
    op.create_index(
        "messages_in_line",
        "messages",
        ["tenant_id", "due_at", "seq"],
        postgresql_where=sa.text("status = 'received' and queued_at is null"),
    )
    op.create_index(
        "messages_queued",
        "messages",
        ["tenant_id"],
        postgresql_where=sa.text("status = 'received' and queued_at is not null"),
    )
    op.execute(f"grant {_RIGHTS} to konstruct_definer")
    _make_dispatch()
    _make_reclaim()
    _make_backlog()
    for function in _FUNCTIONS:
        op.execute(f"revoke all on function {function} from public")
        op.execute(f"grant execute on function {function} to konstruct_system")
    with as_definer():
        for function in _FUNCTIONS:
            op.execute(f"alter function {function} owner to konstruct_definer")


def _make_dispatch() -> None:
    op.execute("""
        create function konstruct_dispatch(
            free integer, per_tenant integer, suspect_from integer, most integer)
        returns table (tenant_id text, message_id text)
        language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
        #variable_conflict use_column
        begin
            -- One dispatcher at a time, without waiting for another.
            if not pg_try_advisory_xact_lock(hashtextextended('konstruct.dispatcher', 0)) then
                return;
            end if;
            return query
                with recursive in_line as (
                    -- Tenants whose messages wait, each found by one step through the index.
                    (select m.tenant_id from public.messages m
                      where m.status = 'received' and m.queued_at is null
                      order by m.tenant_id limit 1)
                    union all
                    select (select m.tenant_id from public.messages m
                             where m.status = 'received' and m.queued_at is null
                               and m.tenant_id > t.tenant_id
                             order by m.tenant_id limit 1)
                      from in_line t where t.tenant_id is not null
                ),
                tenants as (
                    select t.tenant_id, coalesce(q.placed, 0) as placed, coalesce(q.unclaimed, 0) as unclaimed
                      from in_line t
                      left join (
                          select m.tenant_id, count(*) as placed,
                                 count(*) filter (
                                     where (m.owner is null or m.lease_expires_at < now())
                                       and m.deaths + (m.owner is not null)::int < suspect_from) as unclaimed
                            from public.messages m
                           where m.status = 'received' and m.queued_at is not null
                           group by m.tenant_id) q on q.tenant_id = t.tenant_id
                     where t.tenant_id is not null
                ),
                candidates as (
                    select t.tenant_id, c.message_id, c.seq, c.due_at,
                           t.placed + row_number() over (
                               partition by t.tenant_id order by c.due_at, c.seq) as place
                      from tenants t
                     cross join lateral (
                          select m.message_id, m.seq, m.due_at
                            from (select l.message_id, l.seq, l.due_at, l.thread_id, l.tenant_id, l.deaths,
                                         l.owner, l.lease_expires_at
                                    from public.messages l
                                   where l.tenant_id = t.tenant_id
                                     and l.status = 'received' and l.queued_at is null
                                     and l.due_at <= now()
                                   order by l.due_at, l.seq limit 1000) m
                           where (m.owner is null or m.lease_expires_at < now())
                             and m.deaths + (m.owner is not null)::int < suspect_from
                             -- Only the first of a thread can be worked on.
                             and m.seq = (
                                 select e.seq from public.messages e
                                  where e.tenant_id = m.tenant_id and e.thread_id = m.thread_id
                                    and e.status = 'received'
                                  order by e.seq limit 1)
                           order by m.due_at, m.seq
                           limit greatest(least(per_tenant - t.unclaimed, greatest(free, 1)), 0)) c
                     where free > 0 or t.placed = 0
                ),
                chosen as (
                    -- To whom has the fewest, one after the other; who has none never waits for the others.
                    select seq, turn from (
                        select c.seq, c.place, row_number() over (order by c.place, c.due_at, c.seq) as turn
                          from candidates c) ordered
                     where turn <= free or place = 1
                     order by turn limit most
                ),
                placed as (
                    update public.messages m set queued_at = now()
                      from chosen c where m.seq = c.seq and m.queued_at is null and m.status = 'received'
                    returning m.tenant_id, m.message_id, c.turn
                )
                select p.tenant_id, p.message_id from placed p order by p.turn;
        end $$
    """)


def _make_reclaim() -> None:
    # In place of konstruct_sweep, which workers of the version before still call.
    op.execute("""
        create function konstruct_reclaim(
            held bigint, lost_after double precision, suspect_from integer, most integer)
        returns bigint
        language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
        declare
            earlier timestamptz := now() - make_interval(secs => lost_after);
            missing boolean;
            reclaimed bigint;
        begin
            -- One sweeper at a time, without waiting for another.
            if not pg_try_advisory_xact_lock(hashtextextended('konstruct.sweeper', 0)) then
                return 0;
            end if;
            -- What is suspected is worked on without a delivery.
            missing := held < (
                select count(*) from public.messages
                 where status = 'received' and queued_at is not null
                   and deaths + coalesce((lease_expires_at < now())::int, 0) < suspect_from);
            with lost as (
                select m.seq from public.messages m
                 where m.status = 'received' and m.queued_at is not null
                   and (m.owner is null or m.lease_expires_at < now())
                   and m.deaths + (m.owner is not null)::int < suspect_from
                   and case
                       -- its worker fell silent after it was last queued
                       when m.lease_expires_at > m.queued_at then true
                       -- there are fewer deliveries than messages
                       else missing and m.queued_at < earlier
                   end
                 limit most
                   for update skip locked
            ),
            back_in_line as (
                update public.messages m set queued_at = null
                  from lost where m.seq = lost.seq
                returning 1
            )
            select count(*) into reclaimed from back_in_line;
            return reclaimed;
        end $$
    """)


def _make_backlog() -> None:
    op.execute("""
        create function konstruct_backlog() returns bigint
        language sql stable security definer set search_path = pg_catalog, pg_temp as $$
            select (select count(*) from public.messages where status = 'received' and queued_at is null)
                 + (select count(*) from public.messages
                     where status = 'received' and queued_at is not null
                       and (owner is null or lease_expires_at < now()))
        $$
    """)


def downgrade() -> None:
    with as_definer():
        for function in _FUNCTIONS:
            op.execute(f"drop function {function}")
    op.execute(f"revoke {_RIGHTS} from konstruct_definer")
    op.drop_index("messages_queued", "messages")
    op.drop_index("messages_in_line", "messages")
    op.create_index(
        "messages_waiting", "messages", ["received_at"], postgresql_where=sa.text("status = 'received'")
    )
    op.drop_column("messages", "due_at")
