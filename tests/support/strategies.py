"""What hypothesis makes things of, shared by all tests that look for what breaks."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from shared.models import KonstructMessage
from shared.reply import MessageStatus

SENT_AT = datetime(2026, 1, 1, tzinfo=UTC)
"""When made-up messages were sent: the same for all, so that a message sent again is the same."""

finals = st.sampled_from([status for status in MessageStatus if status is not MessageStatus.RECEIVED])
"""Ways for a message to end."""


def messages(
    tenants: tuple[str, ...], *, ids: int = 8, threads: int = 2, agents: int = 2
) -> st.SearchStrategy[KonstructMessage]:
    """Make messages of which many share tenant, thread and agent, and some even the id."""

    def message(tenant: str, number: int, thread: int, agent: int) -> KonstructMessage:
        values: dict[str, Any] = {
            "tenant_id": tenant,
            "message_id": f"m{number}",
            "thread_id": f"t{thread}",
            "agent": f"agent-{agent}",
            "sender": "sam",
            # Says whose it is: seen anywhere else, it names the leak.
            "text": f"{tenant} m{number}",
            "sent_at": SENT_AT,
        }
        return KonstructMessage.model_validate(values)

    return st.builds(
        message,
        st.sampled_from(tenants),
        st.integers(0, ids - 1),
        st.integers(0, threads - 1),
        st.integers(0, agents - 1),
    )
