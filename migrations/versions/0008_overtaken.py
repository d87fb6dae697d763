"""What a killed worker had taken and not claimed: later messages are claimed, and it is not.

Revision ID: 0008
Revises: 0007
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shared.definer import as_definer

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_RIGHTS = "select (started_at, reclaimed_at), update (reclaimed_at) on messages"

_PASSED = """
            -- Redis hands out deliveries in the order they came: what was queued before one that was claimed
            -- a moment ago waits there no more. What was queued again has more than one, and proves nothing.
            passed := (
                select max(q.queued_at)
                  from (select m.queued_at, m.started_at, m.reclaimed_at from public.messages m
                         where m.status = 'received' and m.queued_at is not null and m.owner is not null
                        union all
                        select m.queued_at, m.started_at, m.reclaimed_at from public.messages m
                         where m.finished_at > earlier) q
                 where q.queued_at < q.started_at and q.reclaimed_at is null
                   and q.started_at < now() - make_interval(secs => lost_after / 5));
"""


def upgrade() -> None:
    op.add_column("messages", sa.Column("reclaimed_at", sa.DateTime(timezone=True)))
    op.execute(f"grant {_RIGHTS} to konstruct_definer")
    _make_reclaim(
        passed=_PASSED,
        lost="m.queued_at < earlier and (missing or m.queued_at < passed)",
        noted="queued_at = null, reclaimed_at = now()",
    )


def _make_reclaim(*, passed: str, lost: str, noted: str) -> None:
    """Replace the function; it keeps its owner, and who may call it."""
    with as_definer():
        op.execute(f"""
        create or replace function konstruct_reclaim(
            held bigint, lost_after double precision, suspect_from integer, most integer)
        returns bigint
        language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
        declare
            earlier timestamptz := now() - make_interval(secs => lost_after);
            missing boolean;
            passed timestamptz;
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
                   and deaths + coalesce((lease_expires_at < now())::int, 0) < suspect_from);{passed}
            with lost as (
                select m.seq from public.messages m
                 where m.status = 'received' and m.queued_at is not null
                   and (m.owner is null or m.lease_expires_at < now())
                   and m.deaths + (m.owner is not null)::int < suspect_from
                   and case
                       -- its worker fell silent after it was last queued
                       when m.lease_expires_at > m.queued_at then true
                       -- there are fewer deliveries than messages, or later ones were taken
                       else {lost}
                   end
                 limit most
                   for update skip locked
            ),
            back_in_line as (
                update public.messages m set {noted}
                  from lost where m.seq = lost.seq
                returning 1
            )
            select count(*) into reclaimed from back_in_line;
            return reclaimed;
        end $$
        """)  # noqa: S608 - constants of this module


def downgrade() -> None:
    _make_reclaim(passed="", lost="missing and m.queued_at < earlier", noted="queued_at = null")
    op.execute(f"revoke {_RIGHTS} from konstruct_definer")
    op.drop_column("messages", "reclaimed_at")
