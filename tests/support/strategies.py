"""What hypothesis makes things of, shared by all tests that look for what breaks."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from shared.models import KonstructMessage
from shared.reply import MessageStatus

SENT_AT = datetime(2026, 1, 1, tzinfo=UTC)
"""When made-up messages were sent: the same for all, so that a message sent again is the same."""

strange_texts = st.text(max_size=20) | st.sampled_from(
    ["", "\x00", "a\x00b", "\n", "\u202e", "語" * 600, "9" * 5000, "1e400", "true", "null", "../x", "\ud800"]
)
"""Texts that somebody's program may stumble over; some are no Unicode."""

strange_numbers = st.integers() | st.floats() | st.sampled_from([2**31, 2**63, 10**40, -1, 1e300])
"""Numbers of which some are none, or larger than what they are put into."""

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | strange_numbers | strange_texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(strange_texts, inner, max_size=4),
    max_leaves=12,
)
"""What a JSON parser may give."""

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


@st.composite
def damaged(draw: st.DrawFn, whole: Any, values: st.SearchStrategy[Any] = json_values) -> Any:
    """Make JSON that is `whole`, but that a few places of it hold something else, or nothing."""
    made = copy.deepcopy(whole)
    for _ in range(draw(st.integers(0, 3))):
        within, steps = made, draw(st.integers(0, 4))
        while isinstance(within, dict | list) and within:
            key = draw(st.sampled_from(sorted(within) if isinstance(within, dict) else range(len(within))))
            if steps and isinstance(within[key], dict | list) and within[key]:
                within, steps = within[key], steps - 1
                continue
            if draw(st.booleans()):
                within[key] = draw(values)
            elif isinstance(within, dict) and draw(st.booleans()):
                within[draw(strange_texts)] = draw(values)
            else:
                del within[key]
            break
    return made
