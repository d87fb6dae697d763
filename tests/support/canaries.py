"""Words that must stay where they belong: secrets nowhere at all, texts only where texts are kept.

A canary is looked for as it is, and as base64 and percent-encoding would write it.
"""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

from orchestrator.main import QUEUE, app
from tests.support.database import OWNER, SERVICE, SYSTEM
from tests.support.providers import answer, status
from tests.support.providers_pool import CANARIES
from tests.support.traced import POOL_TOKEN, Way
from tests.support.waiting import eventually
from tests.support.worker import PAYLOAD_KEY

SAID = "a-very-private-question"
REPLIED = "a-very-private-answer"
PROMPT = "a-very-private-instruction"
TEXTS = (SAID, REPLIED, PROMPT)
"""What a sender wrote, a model replied and an Agent says."""

LEAK = "sk-canary-in-a-providers-error"
"""A key that a provider repeats in its error."""

REDIS_PASSWORD = "canary/redis+password=5d1e"
"""A password that URLs must write encoded."""

SECRETS = (
    *CANARIES,
    POOL_TOKEN,
    LEAK,
    REDIS_PASSWORD,
    PAYLOAD_KEY,
    SERVICE.password,
    SYSTEM.password,
    OWNER.password,
)
"""Secrets of the processes under test."""

EVERYTHING = (*SECRETS, *TEXTS)
"""Every canary."""


def forms(canary: str) -> set[bytes]:
    """Return how a canary may be written: as it is, percent-encoded, or within something in base64."""
    plain = canary.encode()
    found = {plain, quote(canary, safe="").encode()}
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + plain)
        # The letters that the bytes around it have no part in.
        found.add(encoded[(0, 2, 3)[before] : (len(plain) + before) * 8 // 6])
    return found


def found_in(text: str | bytes, canaries: tuple[str, ...]) -> list[str]:
    """Return the canaries that are in a text, in any form."""
    searched = text.encode() if isinstance(text, str) else text
    return [canary for canary in canaries if any(form in searched for form in forms(canary))]


def give_prompt(way: Way) -> None:
    """Put the canary into the prompt of acme's ada, before a worker reads it."""
    path = way.cell.agents / "acme-ada.yaml"
    path.write_text(path.read_text().replace("Answer briefly.", PROMPT))


def say_everything(way: Way) -> None:
    """Send what a careless log would repeat: texts, failures that quote, deliveries that are no messages."""
    cell = way.cell
    quoting = " ".join((LEAK, *CANARIES, SAID))
    way.anthropic.script.append(status(401, json.dumps({"error": {"message": quoting}})))
    way.openai.script.append(status(500, quoting))
    way.ollama.default = answer(REPLIED)
    assert way.send(SAID)["text"] == REPLIED
    app.send_task("orchestrator.tasks.unheard_of", args=({"text": SAID},))
    cell.deliver({"text": SAID, "tenant_id": f"acme\n{SAID}", "message_id": f"{SAID}\n"})
    cell.deliver([SAID])
    cell.broker.lpush(QUEUE, json.dumps(_undecodable(SAID)))
    last = cell.message("the last of them")
    cell.submit(last)
    cell.reply(last)
    eventually(
        lambda: (
            cell.logs().count('"event":"message"') == 4
            and cell.logs().count("a delivery that is no message was thrown away") == 2
        ),
        what="a line for each of them",
    )


def _undecodable(text: str) -> dict[str, object]:
    properties = {"delivery_info": {"exchange": "", "routing_key": QUEUE}, "delivery_tag": "t-1"}
    headers = {"task": "orchestrator.tasks.handle_message", "id": "1", "lang": "py"}
    return {
        "body": f"{{{text}",
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": headers,
        "properties": properties,
    }
