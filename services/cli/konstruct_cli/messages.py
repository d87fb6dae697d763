"""Making the messages that ``send`` and ``chat`` submit."""

from __future__ import annotations

import getpass
import os
from uuid import uuid4

from pydantic import ValidationError

from konstruct_cli.errors import UsageError
from shared.manifest import describe
from shared.models import KonstructMessage


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
