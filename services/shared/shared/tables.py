"""The tables, as SQLAlchemy sees them; ``migrations/`` makes them and a test compares the two."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Float,
    Identity,
    Index,
    Integer,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData(
    naming_convention={"ck": "%(table_name)s_%(constraint_name)s", "pk": "%(table_name)s_pkey"}
)
"""All tables."""

SERVICE_ROLE = "konstruct_service"
"""Group role of senders and workers: row level security applies to it."""

SYSTEM_ROLE = "konstruct_system"
"""Group role of what must see across tenants: may execute the narrow functions and nothing else."""

DEFINER_ROLE = "konstruct_definer"
"""Owner of those functions; nobody logs in as it."""

messages = Table(
    "messages",
    metadata,
    Column("tenant_id", Text, nullable=False),
    Column("message_id", Text, nullable=False),
    # Order received: within a thread, commits happen in this order (see orchestrator.messages).
    Column("seq", BigInteger, Identity(always=True), nullable=False),
    Column("thread_id", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("sender", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("sent_at", DateTime(timezone=True), nullable=False),
    Column("received_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("status", Text, nullable=False, server_default="received"),
    # Delivery: who works on it, until when, and how often it was tried.
    Column("owner", Text),
    Column("lease_expires_at", DateTime(timezone=True)),
    Column("attempt", Integer, nullable=False, server_default=text("0")),
    Column("deaths", Integer, nullable=False, server_default=text("0")),
    Column("errors", Integer, nullable=False, server_default=text("0")),
    # When it was last queued; null: it waits its turn (see orchestrator.dispatcher).
    Column("queued_at", DateTime(timezone=True), server_default=func.now()),
    # From when on it may be queued, and its place in line; put off for what could not be worked on.
    Column("due_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    # Whether it may be the first unfinished message of its thread; kept by triggers (ADR 18).
    Column("leads", Boolean, nullable=False, server_default=text("true")),
    Column("started_at", DateTime(timezone=True)),
    Column("finished_at", DateTime(timezone=True)),
    # The envelope.
    Column("reply", Text),
    Column("reason", Text),
    Column("revision", Text),
    Column("requested_group", Text),
    Column("served_group", Text),
    Column("model", Text),
    Column("degraded", Boolean),
    Column("fallback_reason", Text),
    Column("prompt_tokens", Integer),
    Column("completion_tokens", Integer),
    Column("cost_usd", Numeric(14, 8)),
    Column("pool_latency_ms", Float),
    Column("pool_attempts", JSONB),
    Column("prompt_sha256", Text),
    Column("transparency_clause", Text),
    # The trace of the handling that ended the message; null when no trace was kept (docs/tracing.md).
    Column("trace_id", Text),
    # Where the message was recorded in a trace (W3C), so that it stays in it when it is queued again.
    Column("traceparent", Text),
    # When its delivery was last taken for lost.
    Column("reclaimed_at", DateTime(timezone=True)),
    # What somebody decided about it when it was parked, and as which message it was sent again. Of a finished
    # message nothing but these may be written, and these once (trigger keep_reply).
    Column("decision", Text),
    Column("decided_at", DateTime(timezone=True)),
    Column("retried_as", Text),
    # The parked message that this one is sent again for.
    Column("retry_of", Text),
    PrimaryKeyConstraint("tenant_id", "message_id"),
    CheckConstraint("status in ('received', 'answered', 'apologised', 'failed')", name="status_known"),
    CheckConstraint("(status = 'received') = (finished_at is null)", name="finished_has_time"),
    CheckConstraint("(owner is null) = (lease_expires_at is null)", name="owner_has_lease"),
    Index("messages_thread", "tenant_id", "thread_id", "seq"),
    Index(
        "messages_unfinished_thread",
        "tenant_id",
        "thread_id",
        "seq",
        postgresql_where=text("status = 'received'"),
    ),
    Index("messages_seq", "seq", unique=True),
    Index("messages_finished", "finished_at", postgresql_where=text("finished_at is not null")),
    Index(
        "messages_undecided",
        "tenant_id",
        "seq",
        postgresql_where=text("reason = 'parked' and decision is null"),
    ),
    Index(
        "messages_in_line",
        "tenant_id",
        "due_at",
        "seq",
        postgresql_where=text("status = 'received' and queued_at is null"),
    ),
    Index(
        "messages_leading",
        "tenant_id",
        "due_at",
        "seq",
        postgresql_where=text("status = 'received' and queued_at is null and leads"),
    ),
    Index(
        "messages_queued",
        "tenant_id",
        postgresql_where=text("status = 'received' and queued_at is not null"),
    ),
    # The second condition always holds; it keeps queries that do not say it from taking this index.
    Index(
        "messages_oldest",
        "received_at",
        postgresql_where=text("status = 'received' and seq > 0"),
    ),
)
"""Every message and its reply."""

agent_revisions = Table(
    "agent_revisions",
    metadata,
    Column("tenant_id", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("revision", Text, nullable=False),
    Column("identity_json", Text, nullable=False),
    Column("persona_json", Text, nullable=False),
    Column("prompt_sha256", Text, nullable=False),
    Column("transparency_clause", Text, nullable=False),
    Column("first_used_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    # Recorded anew now and then while it speaks; what was not for long may be deleted.
    Column("last_used_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("tenant_id", "agent", "revision", "transparency_clause"),
)
"""Every revision that ever answered, so that a reply can be explained after the agent is gone."""

agents = Table(
    "agents",
    metadata,
    Column("tenant_id", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("active_revision", Text, nullable=False),
    Column("since", DateTime(timezone=True), nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("tenant_id", "agent"),
)
"""The revision that an agent's newest reply spoke from."""
