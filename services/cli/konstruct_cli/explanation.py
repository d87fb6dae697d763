"""Evidence in words: what a person reads of a message, and what can be done about an unfinished one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from rich.text import Text

from konstruct_cli.output import asked_for, data, emit, printable
from orchestrator.evidence import Evidence, Proof, Verdict, Waiting, WaitsFor

_COLOURS = {Verdict.PROVED: "green", Verdict.NO_PROMPT: ""}
"""How a verdict looks; what is in doubt is yellow, a contradiction red."""


def show(evidence: Evidence) -> None:
    """Print the evidence; the prompt and the two documents follow as they are."""
    verdict = evidence.proof.verdict
    for name, value in lines(evidence):
        _line(name, value)
    style = _COLOURS.get(verdict, "red" if verdict.contradicts else "yellow")
    _line("verdict", f"{verdict.value}: {judgement(evidence)}", style)
    for title, text in _texts(evidence):
        emit(f"\n--- {title} ---\n{text.rstrip()}")


def _line(name: str, value: str, style: str = "") -> None:
    """Print a name and its value, never broken: what is a command can be copied."""
    data().print(Text.assemble((f"{name:<12}", "dim"), (printable(value), style)))


def lines(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Put the evidence in words, as names and values."""
    yield "message", f"{evidence.message_id}, thread {evidence.thread_id}, channel {evidence.channel}"
    yield "from", evidence.sender
    yield "tenant", evidence.tenant_id
    yield "agent", evidence.agent + (f", revision {evidence.revision}" if evidence.revision else "")
    yield "status", evidence.status.value + (f" ({evidence.reason.value})" if evidence.reason else "")
    yield from _retries(evidence)
    if evidence.waiting is not None:
        yield "waits for", waiting(evidence, evidence.waiting)
    yield from _times(evidence)
    yield "claims", f"{evidence.claims}, of which {evidence.deaths} ended with the silence of their worker"
    yield from _answer(evidence)
    if evidence.documents is not None:
        yield "kept since", _moment(evidence.documents.first_used_at)
    if evidence.prompt_sha256 is not None:
        yield "prompt", f"sha256 {evidence.prompt_sha256}"
        yield "clause", f"version {evidence.transparency_clause}"
    yield "trace", evidence.trace_id or "none kept"


def _retries(evidence: Evidence) -> Iterator[tuple[str, str]]:
    ask = f"konstruct explain --tenant {evidence.tenant_id}"
    if evidence.retry_of is not None:
        yield "retry of", f"{evidence.retry_of}, which is parked: `{ask} {evidence.retry_of}`"
    if evidence.decided_at is not None:
        decided = "dropped: it stays unanswered"
        if evidence.retried_as is not None:
            decided = f"retried as {evidence.retried_as}: `{ask} {evidence.retried_as}`"
        yield "decided", f"{_moment(evidence.decided_at)}, {decided}"


def _times(evidence: Evidence) -> Iterator[tuple[str, str]]:
    times = evidence.times
    yield "sent", _moment(times.sent_at)
    yield "received", _moment(times.received_at)
    if times.queued_at is not None:
        yield "queued", _moment(times.queued_at)
    if times.started_at is not None:
        yield "started", f"{_moment(times.started_at)}, {times.queue_s:.3f} s after it was received"
    if times.finished_at is not None:
        took = f", {times.answer_s:.3f} s after it was started" if times.answer_s is not None else ""
        yield "finished", _moment(times.finished_at) + took


def _answer(evidence: Evidence) -> Iterator[tuple[str, str]]:
    if evidence.requested_group is not None:
        yield "asked for", asked_for(evidence)
    if evidence.model is not None:
        yield "answered by", f"{evidence.model} (group {evidence.served_group})"
    for number, call in enumerate(evidence.attempts, start=1):
        detail = f"{number}. {call.deployment} ({call.group}): {call.outcome}, {call.ms:.0f} ms"
        yield ("attempts" if number == 1 else ""), detail
    if evidence.usage is not None:
        yield "tokens", f"{evidence.usage.prompt_tokens} read, {evidence.usage.completion_tokens} written"
        yield "cost", "unknown" if evidence.cost_usd is None else f"{evidence.cost_usd:.6f} US dollars"
    if evidence.pool_latency_ms is not None:
        yield "llm-pool", f"{evidence.pool_latency_ms:.0f} ms"


def waiting(evidence: Evidence, state: Waiting) -> str:
    """Say what an unfinished message waits for, and what can be done about it."""
    until = "" if state.lease_expires_at is None else _moment(state.lease_expires_at)
    match state.waits_for:
        case WaitsFor.EARLIER_MESSAGES:
            ask = f"konstruct explain --tenant {evidence.tenant_id} {state.first_ahead}"
            return f"{state.ahead} earlier messages of its thread; about the first of them: `{ask}`"
        case WaitsFor.MODEL:
            return f"the model: worker {state.owner} asks it, and holds the message until {until} or renews"
        case WaitsFor.SILENT_WORKER:
            return (
                f"another worker: {state.owner}, which held it, is silent, and its lease ran out at {until}. "
                "A worker that is up queues it again within seconds; `konstruct status` shows whether one is"
            )
        case WaitsFor.WORKER:
            return "a worker to take it from the queue; `konstruct status` shows whether one is up"
        case WaitsFor.QUEUE:
            return (
                "its turn to be queued: other messages of the tenant come first, or Redis is away; "
                "`konstruct status` shows whether it is"
            )


def judgement(evidence: Evidence) -> str:
    """Say what the verdict means, and no more than it means."""
    proof, kept = evidence.proof, evidence.documents
    match proof.verdict:
        case Verdict.PROVED:
            return "the documents hash to the revision, and the prompt built from them to the recorded hash"
        case Verdict.OTHER_CLAUSE:
            return (
                f"the documents hash to the revision. The prompt had clause {evidence.transparency_clause}; "
                f"installed here is {proof.installed_clause}, so it cannot be built here: ask with the "
                f"version of konstruct that has clause {evidence.transparency_clause}"
            )
        case Verdict.UNKNOWN_SCHEMA:
            return (
                "the documents hash to the revision. Their form is of a later version of konstruct, "
                "so the prompt cannot be built here: ask with that version"
            )
        case Verdict.PROMPT_DIFFERS:
            return (
                f"the documents hash to the revision, but give another prompt here. {_why(evidence, proof)}"
            )
        case Verdict.DOCUMENTS_DIFFER:
            found = kept.revision if kept else "nothing"
            return f"the kept documents hash to {found}, not to the revision: one of them was altered"
        case Verdict.DOCUMENTS_MISSING:
            return "no documents are kept for the revision, though a worker keeps them before it replies"
        case Verdict.NO_PROMPT:
            return (
                "no prompt is recorded yet"
                if evidence.waiting
                else "no model was asked, so there is no prompt"
            )


def _why(evidence: Evidence, proof: Proof) -> str:
    kept = evidence.documents
    if kept is not None and kept.prompt_sha256 == evidence.prompt_sha256:
        why = (
            "The hash that was kept with the documents is the recorded one: most likely the worker that "
            "answered built prompts in another way than this version does"
        )
    else:
        why = (
            "The hash that was kept with the documents is not the recorded one either: workers of two "
            "versions answered from this revision, or a record was altered"
        )
    return f"Its hash is {proof.prompt_sha256}. {why}"


def _texts(evidence: Evidence) -> Iterator[tuple[str, str]]:
    if evidence.text is not None:
        yield "message", evidence.text
    if evidence.reply is not None:
        yield "reply", evidence.reply
    proof, kept = evidence.proof, evidence.documents
    if proof.prompt is not None:
        proved = proof.verdict is Verdict.PROVED
        yield "prompt" if proved else f"prompt as built here, sha256 {proof.prompt_sha256}", proof.prompt
    if kept is not None:
        yield "identity document", kept.identity_json
        yield "persona document", kept.persona_json


def _moment(when: datetime) -> str:
    return when.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + " UTC"
