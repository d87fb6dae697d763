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

_TRIGGERED = ("konstruct_join_line", "konstruct_leave_line")

_TRIGGERS = {
    "join_line": ("insert", "new.status = 'received'", _TRIGGERED[0]),
    "rejoin_line": (
        "update of status",
        "old.status <> 'received' and new.status = 'received'",
        _TRIGGERED[0],
    ),
    "leave_line": (
        "update of status",
        "old.status = 'received' and new.status <> 'received' and old.leads",
        _TRIGGERED[1],
    ),
    "leave_line_deleted": ("delete", "old.status = 'received' and old.leads", _TRIGGERED[1]),
}
"""Triggers: when they fire, for which rows, and what they call."""

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
            if tg_op = 'UPDATE' then
                new.leads := true;  -- at worst it is marked before its turn
                return new;
            end if;
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
    for trigger, (event, when, function) in _TRIGGERS.items():
        op.execute(
            f"create trigger {trigger} before {event} on messages for each row when ({when})"
            f" execute function {function}()"
        )
    for function in _TRIGGERED:
        op.execute(f"revoke all on function {function} from public")


def _make_dispatch() -> None:
    op.execute(Path(__file__).with_name("0009_dispatch.sql").read_text())


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
    for trigger in _TRIGGERS:
        op.execute(f"drop trigger {trigger} on messages")
    for function in _TRIGGERED:
        op.execute(f"drop function {function}")
    op.drop_index("messages_leading", "messages")
    op.execute(f"revoke {_RIGHTS} from konstruct_definer")
    op.drop_column("messages", "leads")
