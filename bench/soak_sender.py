"""The sender of the soak: submits messages, one after the other in each conversation, and waits for each."""

from __future__ import annotations

import sys
import threading

from orchestrator.messages import find_reply
from orchestrator.sending import submit
from shared.config import load_settings
from shared.db import make_engine
from shared.models import KonstructMessage
from tests.chaos.words import AGENTS

LANES = 8
"""Conversations of each tenant at once; each has one message under way."""

TURNS = 10
"""Messages of one conversation."""

LOOK_S = 0.05
"""Seconds between two looks for a reply."""


def main() -> None:
    """Send."""
    lanes = [(tenant, lane) for tenant in AGENTS for lane in range(LANES)]
    engine = make_engine(load_settings())
    pause = threading.Event()

    def send(tenant: str, lane: int, count: int) -> None:
        for number in range(count):
            message = KonstructMessage(
                tenant_id=tenant,
                thread_id=f"{lane}-{number // TURNS}",
                agent=AGENTS[tenant],
                sender="soak",
                text=f"Question {number} of {lane}?",
            )
            submit(message, on=engine)
            while find_reply(tenant, message.message_id, on=engine) is None:
                pause.wait(LOOK_S)

    total = int(sys.argv[1])
    shares = [total // len(lanes) + (index < total % len(lanes)) for index in range(len(lanes))]
    threads = [
        threading.Thread(target=send, args=(*lane, share), daemon=True)
        for lane, share in zip(lanes, shares, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
