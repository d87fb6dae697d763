"""Traces: what a message went through, across processes, as OpenTelemetry spans.

Code makes spans with OpenTelemetry's API, which does next to nothing until a process sends traces:
:func:`start_tracing` has it do so when the settings say so, and only then imports the SDK. A sender with an
OpenTelemetry set-up of its own needs nothing from here: ``orchestrator.submit`` is part of its traces then.
``docs/tracing.md`` tells which spans there are and what is in them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shared.config import Settings

PREFIX = "konstruct."
"""Prefix of the attributes that no convention has a name for."""

ERROR_TYPE = "error.type"
"""Attribute of a span that failed: why, in one of few words."""

TRACE_HEADERS = ("traceparent", "tracestate")
"""Headers that carry a trace from process to process (W3C Trace Context)."""

_PROPAGATOR = TraceContextTextMapPropagator()


def start_tracing(settings: Settings, service: str, version: str) -> Callable[[], None]:
    """Send this process's spans, if the settings say so.

    Returns what to call at the process's end: it sends what is left, within
    :data:`shared.tracing.export.FLUSH_S`.

    Raises:
        ConfigurationError: the environment asks for an exporter that there is none of.
    """
    if not settings.tracing:
        return lambda: None
    from shared.tracing.export import start_export  # noqa: PLC0415 - the SDK, only when it is needed

    return start_export(settings.tracing_sample_ratio, service, version, large=settings.tracing_content)


def check_tracing(settings: Settings) -> None:
    """Look whether :func:`start_tracing` could.

    Raises:
        ConfigurationError: it could not.
    """
    if settings.tracing:
        from shared.tracing.export import Reporting  # noqa: PLC0415 - as above

        Reporting.of(os.environ).shutdown()


def trace_headers() -> dict[str, str]:
    """Return the headers that carry the current trace on; none when there is none."""
    headers: dict[str, str] = {}
    _PROPAGATOR.inject(headers)
    return headers


def incoming_headers(headers: Mapping[str, Any] | None) -> dict[str, str]:
    """Return those of `headers` that carry a trace."""
    found = {name: headers.get(name) for name in TRACE_HEADERS} if headers else {}
    return {name: value for name, value in found.items() if isinstance(value, str)}


def remote_context(headers: Mapping[str, str]) -> Context:
    """Return the context of the trace that `headers` carry; an empty one when they carry none."""
    return _PROPAGATOR.extract(headers, Context())


def trace_ids() -> dict[str, str]:
    """Return the ids of the current trace and span, for the log; nothing when the trace is not kept."""
    current = trace.get_current_span().get_span_context()
    if not current.trace_flags.sampled:
        return {}
    return {"trace_id": f"{current.trace_id:032x}", "span_id": f"{current.span_id:016x}"}


def kept_trace_id() -> str | None:
    """Return the current trace's id if the trace is kept; an id that leads nowhere is of no use."""
    current = trace.get_current_span().get_span_context()
    return f"{current.trace_id:032x}" if current.is_valid and current.trace_flags.sampled else None


def attributes(**facts: Any) -> dict[str, Any]:
    """Return `facts` as attributes of Konstruct's own; without those that are None."""
    return {f"{PREFIX}{name}": value for name, value in facts.items() if value is not None}


def fail(span: Span, why: str) -> None:
    """Mark `span` as failed for the reason `why`, which is one of few and quotes nobody."""
    span.set_attribute(ERROR_TYPE, why)
    span.set_status(Status(StatusCode.ERROR))


@contextmanager
def span_of(
    tracer: Tracer,
    name: str,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    parent: Context | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Iterator[Span]:
    """Make a span the current one for the block. An exception that leaves it is noted by its type alone.

    Args:
        tracer: Whose span it is.
        name: What it is called.
        kind: Its kind.
        parent: Context to make it in; none: the current one.
        facts: Attributes to begin with.
    """
    span = tracer.start_span(name, context=parent, kind=kind, attributes=facts)
    token = context.attach(trace.set_span_in_context(span, parent))
    try:
        yield span
    except BaseException as error:
        if span.is_recording():
            fail(span, type(error).__name__)
        raise
    finally:
        context.detach(token)
        span.end()


@contextmanager
def step_of(tracer: Tracer, name: str) -> Iterator[None]:
    """Make a span for a step of what goes on, if that is recorded; it costs nothing otherwise."""
    if not trace.get_current_span().is_recording():
        yield
        return
    with span_of(tracer, name):
        yield
