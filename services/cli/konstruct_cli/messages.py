"""Making the messages that ``send`` and ``chat`` submit, and naming those that were."""

from __future__ import annotations

import getpass
import os
from typing import ClassVar, Self
from uuid import uuid4

from pydantic import BaseModel, ValidationError

from konstruct_cli.errors import UsageError
from shared.manifest import describe
from shared.models import KonstructMessage
from shared.names import ExternalId, TenantId


class _Named(BaseModel):
    """Something that a command names."""

    @classmethod
    def of(cls, *names: str) -> Self:
        """Check `names`, in the order of the fields.

        Raises:
            UsageError: one of them does not have its form.
        """
        try:
            return cls.model_validate(dict(zip(cls.model_fields, names, strict=True)))
        except ValidationError as error:
            raise UsageError(f"this names no {cls.WHAT}: {describe(error)}") from None

    WHAT: ClassVar[str]
    """What it is."""


class TenantName(_Named):
    """A tenant."""

    WHAT = "tenant"
    tenant: TenantId


class MessageName(_Named):
    """A message of a tenant."""

    WHAT = "message"
    tenant: TenantId
    message_id: ExternalId


def compose(
    *,
    tenant: str,
    agent: str,
    text: str,
    thread: str | None = None,
    message_id: str | None = None,
    sender: str | None = None,
) -> KonstructMessage:
    """Make a message; thread and id are new ones unless given.

    Raises:
        UsageError: a part of it does not have its form.
    """
    try:
        return KonstructMessage(
            tenant_id=tenant,
            agent=agent,
            text=text,
            thread_id=thread or f"cli-{uuid4().hex}",
            message_id=message_id or uuid4().hex,
            sender=sender or _user(),
            channel="cli",
        )
    except ValidationError as error:
        raise UsageError(f"this is no message that can be sent: {describe(error)}") from None


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, in a container
        return f"uid-{os.getuid()}"
