"""For migrations: functions that see across tenants, owned by a role that nobody logs in as."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from alembic import op

from shared.tables import DEFINER_ROLE


@contextmanager
def as_definer() -> Iterator[None]:
    """Be a member of the role that owns the functions, and let it receive them, for the block only.

    A member sees every tenant, for the role's policy counts for members: the owner must not stay one.
    """
    op.execute(f"grant {DEFINER_ROLE} to current_user")
    op.execute(f"grant create on schema public to {DEFINER_ROLE}")
    yield
    op.execute(f"revoke create on schema public from {DEFINER_ROLE}")
    op.execute(f"revoke {DEFINER_ROLE} from current_user")
