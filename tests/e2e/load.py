"""A steady sender, run in a Pod of the cluster from the workers' image: one JSON line per message.

Sends as a channel gateway would: a submission that was refused is repeated with the same id, and the
reply is read from PostgreSQL. SIGTERM ends the sending; what was sent is still waited for. The last line
is ``{"done": true, ...}``; without it, the account is not complete.

    python load.py --rate 5 --wait 180 acme/ada globex/greta
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from orchestrator.errors import StoreUnavailableError
from orchestrator.messages import find_reply
from orchestrator.sending import submit
from shared.models import KonstructMessage
from shared.reply import Reply

POLL_S = 0.1
"""Seconds between two looks for a reply."""


def main() -> None:
    """Send until SIGTERM, then wait for the last replies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("agents", nargs="+", help="tenant/agent")
    parser.add_argument("--rate", type=float, default=5.0, help="messages a second, all agents together")
    parser.add_argument("--wait", type=float, default=180.0, help="seconds to wait for one reply")
    given = parser.parse_args()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    sent = 0
    with ThreadPoolExecutor(64) as pool:
        while not stop.is_set():
            tenant, _, agent = given.agents[sent % len(given.agents)].partition("/")
            pool.submit(_converse, tenant, agent, sent, given.wait)
            sent += 1
            stop.wait(1 / given.rate)
    _say({"done": True, "sent": sent})


def _converse(tenant: str, agent: str, number: int, wait_s: float) -> None:
    message = KonstructMessage(
        tenant_id=tenant,
        thread_id=f"load-{number}",
        agent=agent,
        sender="load",
        text=f"Question {number}: who are you?",
    )
    began = time.time()
    deadline = began + wait_s
    line: dict[str, Any] = {
        "message_id": message.message_id,
        "agent": agent,
        "tenant": tenant,
        "sent": began,
        "refused": 0,
        "status": "lost",
    }
    accepted = False
    while time.time() < deadline:
        try:
            if not accepted:
                submit(message)
                accepted = True
            reply = find_reply(tenant, message.message_id)
        except (StoreUnavailableError, SQLAlchemyError):
            line["refused"] += 1
            reply = None
        if reply is not None:
            line |= _account(reply)
            break
        time.sleep(POLL_S)
    _say(line | {"ended": time.time()})


def _account(reply: Reply) -> dict[str, Any]:
    fields = ("status", "reason", "revision", "text", "served_group", "model", "degraded", "fallback_reason")
    whole = reply.model_dump(mode="json")
    return {field: whole[field] for field in fields}


def _say(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
