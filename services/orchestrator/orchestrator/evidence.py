"""What can be shown of one message: who answered it, from which documents, and whether they prove it.

Pure: the form of the evidence, and the judgement of it. :mod:`orchestrator.recall` reads it.
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import AwareDatetime, BaseModel, ConfigDict

from orchestrator.decisions import Decision
from shared.contract import Attempt, FallbackReason, Usage
from shared.persona import DocumentError, load, revision_of
from shared.prompt import TRANSPARENCY_CLAUSE_VERSION, prompt_sha256, system_prompt
from shared.reply import MessageStatus, Reason


class _Part(BaseModel):
    """A part of the evidence; its docstrings are the descriptions of the committed JSON Schema."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class Times(_Part):
    """When what happened, in UTC."""

    sent_at: AwareDatetime
    """When the sender says it was sent."""

    received_at: AwareDatetime
    """When it was recorded."""

    queued_at: AwareDatetime | None
    """When it was last queued; null while it waits its turn to be."""

    started_at: AwareDatetime | None
    """When the newest claim on it was made; null if it never was claimed."""

    finished_at: AwareDatetime | None
    """When its reply was recorded; null while it is unfinished."""

    queue_s: float | None
    """Seconds from its receipt to the newest claim."""

    answer_s: float | None
    """Seconds from that claim to the recorded reply."""


class WaitsFor(StrEnum):
    """What an unfinished message waits for."""

    EARLIER_MESSAGES = "earlier_messages"
    """Messages of its thread that came before it and are unfinished."""

    MODEL = "model"
    """A live worker holds it, and asks a model."""

    SILENT_WORKER = "silent_worker"
    """The worker that held it is silent; another one queues it again."""

    WORKER = "worker"
    """It is queued, for a worker to take."""

    QUEUE = "queue"
    """Its turn to be queued: others of its tenant come first, or Redis is away."""


class Waiting(_Part):
    """Why a message is unfinished."""

    waits_for: WaitsFor
    """What it waits for."""

    ahead: int
    """Unfinished messages before it in its thread."""

    first_ahead: str | None
    """Id of the first of them."""

    owner: str | None
    """Worker that holds it, or held it last."""

    lease_expires_at: AwareDatetime | None
    """Until when that worker holds it, unless it renews."""


class Documents(_Part):
    """The two documents of the revision that spoke, as they were kept when it spoke first."""

    identity_json: str
    """Identity document, byte for byte."""

    persona_json: str
    """Persona document, byte for byte."""

    revision: str
    """Revision that they hash to, computed now."""

    prompt_sha256: str
    """Hash of the prompt, as it was recorded with them."""

    first_used_at: AwareDatetime
    """When this revision spoke first, with this version of the clause."""


class Verdict(StrEnum):
    """What the kept documents prove of a recorded prompt."""

    PROVED = "proved"
    """They hash to the revision, and the prompt built from them hashes to the recorded one."""

    OTHER_CLAUSE = "other_clause"
    """They hash to the revision; the prompt had another clause than the one installed here."""

    UNKNOWN_SCHEMA = "unknown_schema"
    """They hash to the revision; their form is of a later version than the one installed here."""

    PROMPT_DIFFERS = "prompt_differs"
    """They hash to the revision; the prompt built from them here is another one."""

    DOCUMENTS_DIFFER = "documents_differ"
    """They do not hash to the revision."""

    DOCUMENTS_MISSING = "documents_missing"
    """None are kept for the revision."""

    NO_PROMPT = "no_prompt"
    """No prompt was recorded: no model was asked, or none yet."""

    @property
    def contradicts(self) -> bool:
        """Whether the records do not agree with each other, as they should."""
        return self in (self.PROMPT_DIFFERS, self.DOCUMENTS_DIFFER, self.DOCUMENTS_MISSING)


class Proof(_Part):
    """The judgement, and what it rests on."""

    verdict: Verdict
    """The judgement."""

    prompt: str | None = None
    """System prompt built from the documents, with the clause installed here."""

    prompt_sha256: str | None = None
    """Hash of that prompt."""

    installed_clause: str = TRANSPARENCY_CLAUSE_VERSION
    """Version of the clause installed where this was judged."""


class Evidence(_Part):
    """Everything that is recorded of one message and its reply."""

    message_id: str
    """Id of the message."""

    tenant_id: str
    """Its tenant."""

    agent: str
    """The agent it was addressed to."""

    channel: str
    """Channel it came through."""

    sender: str
    """Who wrote it, as the channel names them."""

    thread_id: str
    """Its conversation."""

    status: MessageStatus
    """Where it stands."""

    reason: Reason | None
    """Why it was not answered; null when it was, and while it is unfinished."""

    decision: Decision | None = None
    """What somebody decided about it when it was parked; null while nobody has."""

    decided_at: AwareDatetime | None = None
    """When that was decided."""

    retried_as: str | None = None
    """Id of the message that it was sent again as; null if it was not."""

    retry_of: str | None = None
    """Id of the parked message that this one is sent again for; null if it is not."""

    times: Times
    """When what happened."""

    claims: int
    """How often a worker took it up."""

    deaths: int
    """How often a worker that held it fell silent."""

    waiting: Waiting | None
    """Why it is unfinished; null when it is finished."""

    requested_group: str | None
    """Model group that was asked for."""

    served_group: str | None
    """Model group that answered."""

    model: str | None
    """Model that answered, as its provider names it."""

    degraded: bool
    """Whether another group answered than the one asked for."""

    fallback_reason: FallbackReason | None
    """Why the requested group did not answer."""

    attempts: tuple[Attempt, ...]
    """Calls to deployments, in order."""

    usage: Usage | None
    """Tokens of the answering call."""

    cost_usd: float | None
    """US dollars that it cost; null when unknown."""

    pool_latency_ms: float | None
    """Milliseconds that the llm-pool took over the answer."""

    revision: str | None
    """Revision of the agent that the reply spoke from."""

    prompt_sha256: str | None
    """SHA-256 of the system prompt with its clause, as recorded with the reply."""

    transparency_clause: str | None
    """Version of the AI transparency clause in that prompt."""

    trace_id: str | None
    """Trace that the message was answered in; null if none was kept."""

    documents: Documents | None
    """The documents behind the reply."""

    proof: Proof
    """Whether the documents give the recorded prompt."""

    text: str | None
    """What the sender wrote; null unless it was asked for."""

    reply: str | None
    """What the sender was told; null unless it was asked for."""


def judge(
    revision: str | None, recorded_sha256: str | None, clause: str | None, kept: Documents | None
) -> Proof:
    """Judge whether `kept` documents prove a reply's `revision` and the hash of its prompt.

    The clause's text is that of the version installed here. A prompt with another one cannot be built, and
    says nothing against the documents.
    """
    if revision is None or recorded_sha256 is None:
        return Proof(verdict=Verdict.NO_PROMPT)
    if kept is None:
        return Proof(verdict=Verdict.DOCUMENTS_MISSING)
    if revision_of(kept.identity_json, kept.persona_json) != revision:
        return Proof(verdict=Verdict.DOCUMENTS_DIFFER)
    try:
        prompt = system_prompt(load(kept.identity_json, kept.persona_json, revision))
    except DocumentError:
        return Proof(verdict=Verdict.UNKNOWN_SCHEMA)
    built = prompt_sha256(prompt)
    if built == recorded_sha256:
        verdict = Verdict.PROVED
    elif clause != TRANSPARENCY_CLAUSE_VERSION:
        verdict = Verdict.OTHER_CLAUSE
    else:
        verdict = Verdict.PROMPT_DIFFERS
    return Proof(verdict=verdict, prompt=prompt, prompt_sha256=built)
