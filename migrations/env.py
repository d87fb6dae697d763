"""Alembic's environment: one connection, one transaction per migration, one runner at a time."""

from __future__ import annotations

from alembic import context
from sqlalchemy import create_engine, text

from shared.tables import metadata

engine = create_engine(context.config.attributes["url"], connect_args={"connect_timeout": 5})
try:
    with engine.connect() as connection:
        context.configure(connection=connection, target_metadata=metadata)
        with context.begin_transaction():
            # Two installers at once: the second waits, then finds nothing to do.
            connection.execute(text("select pg_advisory_xact_lock(hashtextextended('konstruct.migrate', 0))"))
            context.run_migrations()
finally:
    engine.dispose()
