"""Row level security: the tenant of the running code, handed to PostgreSQL at every transaction.

The policies (``migrations/``) compare each row with the setting ``app.tenant_id``. It is set for one
transaction only, so that a pooled connection carries nothing to its next user.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from sqlalchemy import Connection, Engine, event

current_tenant_id: ContextVar[str | None] = ContextVar("current_tenant_id", default=None)
"""Tenant that the running code acts for; None outside :func:`tenant_scope`."""


class TenantNotSetError(RuntimeError):
    """A transaction was begun without a tenant: a fault of the caller, never worth a retry."""


@contextmanager
def tenant_scope(tenant_id: str) -> Iterator[None]:
    """Act for `tenant_id` inside the block; the tenant before it is back afterwards, also on error.

    ``asyncio.to_thread`` takes the tenant along; ``loop.run_in_executor`` does not and is forbidden by
    lint.
    """
    token = current_tenant_id.set(tenant_id)
    try:
        yield
    finally:
        current_tenant_id.reset(token)


def configure_rls_hook(engine: Engine) -> None:
    """Make every transaction of `engine` act for the current tenant; call it once per engine.

    Beginning a transaction without a tenant raises :class:`TenantNotSetError`. In AUTOCOMMIT the setting
    would be gone before the first statement; the policies then match nothing.
    """

    @event.listens_for(engine, "begin")
    def _set_tenant(connection: Connection) -> None:
        tenant_id = current_tenant_id.get()
        if not tenant_id:
            raise TenantNotSetError("no tenant is set: use shared.rls.tenant_scope around database work")
        connection.exec_driver_sql("select set_config('app.tenant_id', %s, true)", (tenant_id,))
