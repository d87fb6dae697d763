"""The dispatcher chooses among the first of their threads; what goes wrong with a line is found and mended.

Each unfinished message that may be the first of its thread is marked (``leads``), so that the dispatcher
reads no followers, however many wait. ADR 18 tells why the mark is never missing.

Revision ID: 0009
Revises: 0008
"""

from __future__ import annotations

import runpy
from pathlib import Path

import sqlalchemy as sa
from alembic import op

from shared.definer import as_definer

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_NEW = ("konstruct_stranded", "konstruct_mend")

_RIGHTS = "select (leads), update (leads, due_at) on messages"


def upgrade() -> None:
    op.add_column("messages", sa.Column("leads", sa.Boolean, nullable=False, server_default=sa.true()))
    op.execute(f"grant {_RIGHTS} to konstruct_definer")
    with as_definer():  # the owner of the table sees no rows
        op.execute("""
            update messages m set leads = false
             where status = 'received' and exists (
                 select from messages e
                  where e.tenant_id = m.tenant_id and e.thread_id = m.thread_id
                    and e.seq < m.seq and e.status = 'received')
        """)
    op.create_index(
        "messages_leading",
        "messages",
        ["tenant_id", "due_at", "seq"],
        postgresql_where=sa.text("status = 'received' and queued_at is null and leads"),
    )
    _make_triggers()
    with as_definer():
        _make_dispatch()
        _make_extend("""
            -- What is locked is about to finish, or has its turn at the next beat: the others do not wait.
            select m.seq from public.messages m
             where m.owner = worker and m.seq = any (held) and m.status = 'received'
               for no key update skip locked
        """)
    _make_stranded()
    _make_mend()
    for function in _NEW:
        op.execute(f"revoke all on function {function} from public")
        op.execute(f"grant execute on function {function} to konstruct_system")
    with as_definer():
        for function in _NEW:
            op.execute(f"alter function {function} owner to konstruct_definer")


def _make_triggers() -> None:
    op.execute("""
        create function konstruct_join_line() returns trigger
        language plpgsql set search_path = pg_catalog, pg_temp
        set plan_cache_mode = force_custom_plan as $$
        begin
            -- Until this is committed, the message in front cannot finish: it would not see who follows.
            perform from public.messages e
              where e.tenant_id = new.tenant_id and e.thread_id = new.thread_id and e.status = 'received'
              order by e.seq limit 1 for key share;
            new.leads := not found;
            return new;
        end $$
    """)
    op.execute("""
        create function konstruct_leave_line() returns trigger
        language plpgsql set search_path = pg_catalog, pg_temp
        set plan_cache_mode = force_custom_plan as $$
        declare
            next_seq bigint;
        begin
            -- Waits for whoever is joining the line behind it.
            perform from public.messages m where m.seq = old.seq for update;
            select e.seq into next_seq from public.messages e
             where e.tenant_id = old.tenant_id and e.thread_id = old.thread_id
               and e.seq > old.seq and e.status = 'received'
             order by e.seq limit 1 for no key update;
            update public.messages m set leads = true where m.seq = next_seq and not m.leads;
            return coalesce(new, old);
        end $$
    """)
    op.execute("""
        create function konstruct_rejoin_line() returns trigger
        language plpgsql set search_path = pg_catalog, pg_temp
        set plan_cache_mode = force_custom_plan as $$
        begin
            new.leads := true;  -- at worst it is marked before its turn
            return new;
        end $$
    """)
    op.execute("""
        create trigger join_line before insert on messages
           for each row when (new.status = 'received') execute function konstruct_join_line()
    """)
    op.execute("""
        create trigger leave_line before update of status on messages
           for each row when (old.status = 'received' and new.status <> 'received' and old.leads)
           execute function konstruct_leave_line()
    """)
    op.execute("""
        create trigger leave_line_deleted before delete on messages
           for each row when (old.status = 'received' and old.leads) execute function konstruct_leave_line()
    """)
    op.execute("""
        create trigger rejoin_line before update of status on messages
           for each row when (old.status <> 'received' and new.status = 'received')
           execute function konstruct_rejoin_line()
    """)
    for function in ("konstruct_join_line", "konstruct_leave_line", "konstruct_rejoin_line"):
        op.execute(f"revoke all on function {function} from public")


def _make_dispatch() -> None:
    op.execute("""
        create or replace function konstruct_dispatch(
            free integer, per_tenant integer, suspect_from integer, most integer)
        returns table (tenant_id text, message_id text)
        language plpgsql security definer set search_path = pg_catalog, pg_temp
        -- A plan made while the table was small would read and sort all that waits.
        set enable_seqscan = off set enable_bitmapscan = off
        set enable_hashjoin = off set enable_mergejoin = off set jit = off
        set plan_cache_mode = force_custom_plan
        as $$
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
                      where m.status = 'received' and m.queued_at is null and m.leads
                      order by m.tenant_id limit 1)
                    union all
                    select (select m.tenant_id from public.messages m
                             where m.status = 'received' and m.queued_at is null and m.leads
                               and m.tenant_id > t.tenant_id
                             order by m.tenant_id limit 1)
                      from in_line t where t.tenant_id is not null
                ),
                tenants as (
                    select t.tenant_id, q.placed, q.unclaimed
                      from in_line t
                     cross join lateral (
                          select count(*) as placed,
                                 count(*) filter (
                                     where (m.owner is null or m.lease_expires_at < now())
                                       and m.deaths + (m.owner is not null)::int < suspect_from) as unclaimed
                            from public.messages m
                           where m.tenant_id = t.tenant_id
                             and m.status = 'received' and m.queued_at is not null) q
                     where t.tenant_id is not null
                ),
                candidates as (
                    select t.tenant_id, c.message_id, c.seq, c.due_at,
                           t.placed + row_number() over (
                               partition by t.tenant_id order by c.due_at, c.seq) as place
                      from tenants t
                     cross join lateral (
                          select m.message_id, m.seq, m.due_at
                            from public.messages m
                           where m.tenant_id = t.tenant_id
                             and m.status = 'received' and m.queued_at is null and m.leads
                             and m.due_at <= now()
                             and (m.owner is null or m.lease_expires_at < now())
                             and m.deaths + (m.owner is not null)::int < suspect_from
                             -- The mark may be there too early: only the first of a thread can be worked on.
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
                locked as (
                    -- What somebody else has locked has its turn at the next look: nobody waits for it.
                    select m.seq, c.turn
                      from chosen c
                     cross join lateral (
                          select l.seq, l.status, l.queued_at from public.messages l
                           where l.seq = c.seq for no key update skip locked) m
                     -- Written so that no partial index fits: it would be read as a whole.
                     where num_nulls(m.queued_at) = 1 and coalesce(m.status, '') = 'received'
                ),
                placed as (
                    update public.messages m set queued_at = now()
                      from locked l where m.seq = l.seq
                    returning m.tenant_id, m.message_id, l.turn
                )
                select p.tenant_id, p.message_id from placed p order by p.turn;
        end $$
    """)


def _make_extend(held: str) -> None:
    """Replace the function; `held` selects what it extends."""
    op.execute(f"""
        create or replace function konstruct_extend_leases(
            worker text, held bigint[], seconds double precision)
        returns bigint
        language sql security definer set search_path = pg_catalog, pg_temp as $$
            with extended as (
                update public.messages set lease_expires_at = now() + make_interval(secs => seconds)
                where seq in ({held}) returning 1
            )
            select count(*) from extended
        $$
    """)  # noqa: S608 - constants of this module


def _make_stranded() -> None:
    # Only the first of a thread is looked at: what is behind it gets its turn when that has ended.
    op.execute("""
        create function konstruct_stranded(suspect_from integer, longest_lease double precision)
        returns table (tenant_id text, message_id text)
        language sql stable security definer set search_path = pg_catalog, pg_temp
        set enable_seqscan = off set enable_bitmapscan = off set jit = off
        set plan_cache_mode = force_custom_plan as $$
            select f.tenant_id, f.message_id
              from (select distinct on (m.tenant_id, m.thread_id)
                           m.tenant_id, m.message_id, m.queued_at, m.due_at, m.leads,
                           coalesce(m.lease_expires_at >= now(), false) as live, m.lease_expires_at,
                           m.deaths + (m.owner is not null)::int as deaths
                      from public.messages m where m.status = 'received'
                     order by m.tenant_id, m.thread_id, m.seq) f
             where case
                 -- a worker has it, if it can have extended its lease so far
                 when f.live then f.lease_expires_at > now() + make_interval(secs => longest_lease)
                 when f.deaths >= suspect_from then false  -- the quarantine's
                 when f.queued_at is not null then f.queued_at > now() + interval '1 minute'  -- the sweeper's
                 else not f.leads or f.due_at > now() + interval '1 minute'  -- the dispatcher's
             end
        $$
    """)


def _make_mend() -> None:
    op.execute("""
        create function konstruct_mend(longest_lease double precision) returns bigint
        language plpgsql security definer set search_path = pg_catalog, pg_temp
        set enable_seqscan = off set enable_bitmapscan = off set jit = off
        set plan_cache_mode = force_custom_plan as $$
        declare
            mended bigint;
        begin
            -- One at a time, without waiting for another.
            if not pg_try_advisory_xact_lock(hashtextextended('konstruct.mender', 0)) then
                return 0;
            end if;
            -- Times so far ahead were written before the clock was set back.
            with firsts as (
                select distinct on (m.tenant_id, m.thread_id)
                       m.seq, m.leads, m.due_at, m.queued_at, m.lease_expires_at
                  from public.messages m where m.status = 'received'
                 order by m.tenant_id, m.thread_id, m.seq
            ),
            wrong as (
                select m.seq
                  from (select f.seq from firsts f
                         where not f.leads or f.due_at > now() + interval '1 minute'
                            or f.queued_at > now() + interval '1 minute'
                            or f.lease_expires_at > now() + make_interval(secs => longest_lease)) f
                 cross join lateral (
                      select l.seq, l.status from public.messages l
                       where l.seq = f.seq for no key update skip locked) m
                 where coalesce(m.status, '') = 'received'  -- no partial index fits
            ),
            put_right as (
                update public.messages m
                   set leads = true, due_at = least(m.due_at, now()),
                       queued_at = case when m.queued_at > now() then now() else m.queued_at end,
                       lease_expires_at = case
                           when m.lease_expires_at > now() + make_interval(secs => longest_lease)
                           then now() + make_interval(secs => longest_lease)
                           else m.lease_expires_at end
                  from wrong w where m.seq = w.seq
                returning 1
            )
            select count(*) into mended from put_right;
            return mended;
        end $$
    """)


def downgrade() -> None:
    with as_definer():
        for function in (*_NEW, "konstruct_dispatch"):
            op.execute(f"drop function {function}")
        _make_extend(
            "select m.seq from public.messages m"
            " where m.owner = worker and m.seq = any (held) and m.status = 'received'"
        )
    runpy.run_path(str(Path(__file__).with_name("0006_dispatcher.py")))["_make_dispatch"]()
    op.execute("revoke all on function konstruct_dispatch from public")
    op.execute("grant execute on function konstruct_dispatch to konstruct_system")
    with as_definer():
        op.execute("alter function konstruct_dispatch owner to konstruct_definer")
    for trigger in ("join_line", "leave_line", "leave_line_deleted", "rejoin_line"):
        op.execute(f"drop trigger {trigger} on messages")
    for function in ("konstruct_join_line", "konstruct_leave_line", "konstruct_rejoin_line"):
        op.execute(f"drop function {function}")
    op.drop_index("messages_leading", "messages")
    op.execute(f"revoke {_RIGHTS} from konstruct_definer")
    op.drop_column("messages", "leads")
