"""A reply stays as it is, and a suspected message that cannot be tried now hides no other.

Of what is finished nothing is changed any more: a decision about a parked message is noted beside its reply,
once, and a retry of it is another message.

Workers of the version before go on as they were: nothing that they do changes a finished row. Its commands
`parked retry` and `parked drop` are refused.

Revision ID: 0010
Revises: 0009
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shared.definer import as_definer

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_RIGHTS = "select (reason, decision) on messages"

_DECISION = "array['decision', 'decided_at', 'retried_as']"
"""Columns that may be written once after a message was parked."""


def upgrade() -> None:
    for name, kind in (
        ("decision", sa.Text),
        ("decided_at", sa.DateTime(timezone=True)),
        ("retried_as", sa.Text),
        ("retry_of", sa.Text),
    ):
        op.add_column("messages", sa.Column(name, kind))
    op.create_index(
        "messages_undecided",
        "messages",
        ["tenant_id", "seq"],
        postgresql_where=sa.text("reason = 'parked' and decision is null"),
    )
    op.execute(f"grant {_RIGHTS} to konstruct_definer")
    _keep_replies()
    _make_parked()
    _make_suspects(order="m.due_at, m.seq", due="and m.due_at <= now()")


def _keep_replies() -> None:
    op.execute(f"""
        create function konstruct_keep_reply() returns trigger
        language plpgsql set search_path = pg_catalog, pg_temp as $$
        begin
            if to_jsonb(new) - {_DECISION} is distinct from to_jsonb(old) - {_DECISION} then
                raise restrict_violation using
                    message = 'message ' || old.message_id || ' is finished: its reply stays as it is',
                    hint = 'Retry or drop a parked message with this version of konstruct, or a later one.';
            end if;
            if old.reason is distinct from 'parked' or old.decision is not null or new.decision is null
                or new.decision not in ('retry', 'drop') or new.decided_at is null
                or (new.decision = 'retry') is distinct from (new.retried_as is not null) then
                raise restrict_violation using
                    message = 'message ' || old.message_id || ' is not to be decided about, or it is already';
            end if;
            return new;
        end $$
    """)
    op.execute("""
        create trigger keep_reply before update on messages
        for each row when (old.status <> 'received') execute function konstruct_keep_reply()
    """)
    op.execute("revoke all on function konstruct_keep_reply from public")


def _make_parked() -> None:
    op.execute("""
        create function konstruct_parked() returns bigint
        language sql stable security definer set search_path = pg_catalog, pg_temp as $$
            select count(*) from public.messages where reason = 'parked' and decision is null
        $$
    """)
    op.execute("revoke all on function konstruct_parked from public")
    op.execute("grant execute on function konstruct_parked to konstruct_system")
    with as_definer():
        op.execute("alter function konstruct_parked owner to konstruct_definer")


def _make_suspects(*, order: str, due: str) -> None:
    with as_definer():
        op.execute(f"""
            create or replace function konstruct_suspects(suspect_from integer, most integer)
            returns table (tenant_id text, message_id text, deaths integer)
            language sql stable security definer set search_path = pg_catalog, pg_temp as $$
                select m.tenant_id, m.message_id, m.deaths + (m.owner is not null)::int
                  from public.messages m
                 where m.status = 'received' and m.deaths + (m.owner is not null)::int >= suspect_from
                   and (m.owner is null or m.lease_expires_at < now()) {due}
                   and not exists (
                       select from public.messages e
                        where e.tenant_id = m.tenant_id and e.thread_id = m.thread_id
                          and e.seq < m.seq and e.status = 'received')
                 order by {order} limit most
            $$
        """)  # noqa: S608 - constants of this module


def downgrade() -> None:
    _make_suspects(order="m.seq", due="")
    with as_definer():
        op.execute("drop function konstruct_parked")
    op.execute("drop trigger keep_reply on messages")
    op.execute("drop function konstruct_keep_reply")
    op.execute(f"revoke {_RIGHTS} from konstruct_definer")
    op.drop_index("messages_undecided", "messages")
    for name in ("retry_of", "retried_as", "decided_at", "decision"):
        op.drop_column("messages", name)
