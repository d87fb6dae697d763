"""The trace that a message was recorded in, for what queues it again.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("messages", sa.Column("traceparent", sa.Text))


def downgrade() -> None:
    op.drop_column("messages", "traceparent")
