"""The spans of sender and worker: a message submitted, one handling of it, its steps, the pool asked.

A message's trace travels in the headers of its delivery, which Redis keeps: a copy that is delivered again,
handed back or put back goes on in the same trace.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind

from orchestrator.wire import QUEUE
from shared.models import KonstructMessage
from shared.tracing import (
    attributes,
    fail,
    incoming_headers,
    remote_context,
    span_of,
    step_of,
    trace_headers,
)

_tracer = trace.get_tracer("konstruct.orchestrator")

_QUEUE_FACTS = {"messaging.system": "celery", "messaging.destination.name": QUEUE}
"""What messaging spans have in common."""


def submitting(message: KonstructMessage) -> AbstractContextManager[Span]:
    """Make the span of a sender that records and queues `message`."""
    facts = {
        **_QUEUE_FACTS,
        "messaging.operation.name": "submit",
        "messaging.operation.type": "send",
        **_facts_of(message),
    }
    return span_of(_tracer, f"submit {QUEUE}", kind=SpanKind.PRODUCER, facts=facts)


@contextmanager
def handling(headers: Mapping[str, Any] | None) -> Iterator[None]:
    """Make the span of one handling of a delivery with these `headers`, in the trace that they carry.

    A delivery that is returned to the queue is no failure; its span says why it was.
    """
    from celery.exceptions import Ignore, Reject  # noqa: PLC0415 - a sender makes spans without Celery

    facts = {
        **_QUEUE_FACTS,
        "messaging.operation.name": "handle_message",
        "messaging.operation.type": "process",
    }
    parent = remote_context(incoming_headers(headers))
    with span_of(
        _tracer, f"handle_message {QUEUE}", kind=SpanKind.CONSUMER, parent=parent, facts=facts
    ) as span:
        returned: Ignore | Reject | None = None
        try:
            yield
        except (Ignore, Reject) as why:
            returned = why
            span.set_attributes(attributes(returned=str(why.args[0])))
    if returned is not None:
        raise returned


def onward_headers(headers: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the headers that keep a delivery with these `headers` in its trace when it is put back."""
    return incoming_headers(headers) or trace_headers()


def describe_message(message: KonstructMessage) -> None:
    """Say in the current span which message is handled."""
    span = trace.get_current_span()
    if span.is_recording():
        span.set_attributes(_facts_of(message))


def step(name: str) -> AbstractContextManager[None]:
    """Make the span of one step of a handling."""
    return step_of(_tracer, name)


@contextmanager
def asking(url: str) -> Iterator[Span]:
    """Make the span of a request to the llm-pool at `url`, if the message's is recorded."""
    if not trace.get_current_span().is_recording():
        yield trace.INVALID_SPAN
        return
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    facts: dict[str, Any] = {
        "http.request.method": "POST",
        "url.full": f"{parts.scheme}://{parts.hostname}:{port}{parts.path}",
        "server.address": parts.hostname or "",
        "server.port": port,
    }
    with span_of(_tracer, f"POST {parts.path}", kind=SpanKind.CLIENT, facts=facts) as span:
        yield span


def answered(span: Span, status: int) -> None:
    """Note the pool's answer in the span of asking."""
    span.set_attribute("http.response.status_code", status)
    if status >= 400:
        fail(span, str(status))


def _facts_of(message: KonstructMessage) -> dict[str, Any]:
    return {
        "messaging.message.id": message.message_id,
        "gen_ai.conversation.id": message.thread_id,
        "gen_ai.agent.name": message.agent,
        **attributes(
            tenant_id=message.tenant_id,
            agent=message.agent,
            message_id=message.message_id,
            thread_id=message.thread_id,
        ),
    }
