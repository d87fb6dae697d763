"""What is said in the fault suite: words by which every reply proves from which prompt and text it was made.

Pure. A prompt names its tenant, agent and edit, a message its tenant and id; the provider's answer repeats
what it was shown, or says that it was shown two tenants' words at once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from shared.models import AgentSpec
from shared.persona import render

AGENTS = {"acme": "ada", "globex": "greta", "initech": "ivan"}
"""The tenants, and the agent of each."""

MIXED = "MIXED"
"""What a reply begins with whose request held the words of two tenants, or no prompt, or no message."""

_MARK = re.compile(r"\[\[([pmr]):([a-z]+):([a-z0-9:.-]+)\]\]")


@dataclass(frozen=True)
class Edit:
    """One edit of an agent."""

    tenant: str
    """Whose agent it is."""

    number: int
    """Number of the edit, from 0 on."""

    def spec(self) -> dict[str, Any]:
        """Return the Agent's spec."""
        agent = AGENTS[self.tenant]
        prompt = f"You work for {self.tenant}. [[p:{self.tenant}:{agent}.{self.number}]]"
        return {"displayName": agent.title(), "systemPrompt": prompt}

    def revision(self) -> str:
        """Return the revision that the edit has wherever it is rendered."""
        return render(AgentSpec.model_validate(self.spec())).revision


def text_of(tenant: str, message_id: str) -> str:
    """Return what a message says."""
    return f"Question [[m:{tenant}:{message_id}]]?"


def reply_of(edit: Edit, message_id: str) -> str:
    """Return what an agent answers to a message after an edit."""
    return f"[[r:{edit.tenant}:{AGENTS[edit.tenant]}.{edit.number}:{message_id}]]"


def answer(body: str) -> str:
    """Answer a provider's request, whatever its protocol: the last message counts, the others are history."""
    marks = _MARK.findall(body)
    prompts = [rest for kind, _, rest in marks if kind == "p"]
    asked = [rest for kind, _, rest in marks if kind == "m"]
    tenants = {tenant for _, tenant, _ in marks}
    if len(tenants) != 1 or len(prompts) != 1 or not asked:
        return f"{MIXED}: {sorted(tenants)} in {len(prompts)} prompts and {len(asked)} messages"
    return f"[[r:{tenants.pop()}:{prompts[0]}:{asked[-1]}]]"


def asked(body: str) -> str:
    """Return the id of the message that a provider's request asks an answer to."""
    found = [rest for kind, _, rest in _MARK.findall(body) if kind == "m"]
    return found[-1] if found else ""
