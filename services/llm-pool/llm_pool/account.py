"""What is told of one request: its span, its line in the log, and what is counted of it.

The worker says in headers which message and revision it asks for. They are for this account alone; what has
not the form of such a name is passed over, for the request is as good without it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from typing import Any

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind

from llm_pool.dispatch import Trail
from llm_pool.metrics import CANCELLED, NONE, OK, Metrics
from shared.contract import (
    MESSAGE_ID_HEADER,
    REVISION_HEADER,
    CompletionRequest,
    CompletionResponse,
    ProblemCode,
)
from shared.logs import fields
from shared.names import EXTERNAL_ID
from shared.tracing import TRACE_HEADERS, attributes, fail, remote_context

log = logging.getLogger(__name__)

_tracer = trace.get_tracer("konstruct.llm-pool")

_FORMS = {MESSAGE_ID_HEADER: re.compile(EXTERNAL_ID), REVISION_HEADER: re.compile(r"[0-9a-f]{1,64}")}
"""The form of each header that names something."""

_READ = frozenset(name.encode() for name in (*TRACE_HEADERS, *_FORMS))

_SPAN = {"http.request.method": "POST", "http.route": "/complete", "url.path": "/complete"}


class Account:
    """The account of one request, open while it is answered."""

    def __init__(
        self, headers: Iterable[tuple[bytes, bytes]], asked: CompletionRequest, trail: Trail
    ) -> None:
        """Begin the request's span, in the trace that its `headers` name, and make it the current one."""
        found = {name.decode(): value.decode("latin-1") for name, value in headers if name in _READ}
        self.outcome = CANCELLED
        """``ok``, ``cancelled``, or the code of the problem document."""
        self._named = {name: found.get(name, "") for name in _FORMS}
        self._asked = asked
        self._trail = trail
        self._envelope: CompletionResponse | None = None
        parent = remote_context(found) if TRACE_HEADERS[0] in found else Context()
        self._span = _tracer.start_span("POST /complete", parent, SpanKind.SERVER, _SPAN)
        self._token = context.attach(trace.set_span_in_context(self._span))

    def answered(self, envelope: CompletionResponse) -> None:
        """Note the answer."""
        self._envelope = envelope
        self.outcome = OK

    def close(self, seconds: float, metrics: Metrics) -> None:
        """Tell how the request has ended, `seconds` after it arrived."""
        trail, envelope = self._trail, self._envelope
        if trail.group:
            served = envelope.served_group if envelope else NONE
            metrics.finished(trail.group, served, self.outcome, seconds, trail.provider_s)
        elif self.outcome == ProblemCode.UNKNOWN_GROUP.value:
            metrics.refused(ProblemCode.UNKNOWN_GROUP)
        level = logging.INFO if self.outcome in (OK, CANCELLED) else logging.WARNING
        recorded = self._span.is_recording()
        if recorded or log.isEnabledFor(level):
            facts = self._facts(seconds)
            log.log(level, "completion", extra=fields(**facts))
            if recorded:
                self._span.set_attributes(attributes(**facts))
                if self.outcome != OK:
                    fail(self._span, self.outcome)
        context.detach(self._token)
        self._span.end()

    def _facts(self, seconds: float) -> dict[str, Any]:
        trail, envelope = self._trail, self._envelope
        return {
            "message_id": self._name(MESSAGE_ID_HEADER),
            "tenant_id": self._asked.tenant_id,
            "agent": self._asked.agent,
            "revision": self._name(REVISION_HEADER),
            "outcome": self.outcome,
            "requested_group": trail.group or self._asked.model,
            "served_group": envelope.served_group if envelope else None,
            "model": envelope.model if envelope else None,
            "degraded": envelope.degraded if envelope else None,
            "fallback_reason": trail.reason.value if trail.reason else None,
            "attempts": len(trail.attempts),
            "prompt_tokens": envelope.usage.prompt_tokens if envelope else None,
            "completion_tokens": envelope.usage.completion_tokens if envelope else None,
            "cost_usd": envelope.cost_usd if envelope else None,
            "provider_seconds": round(trail.provider_s, 6),
            "seconds": round(seconds, 6),
        }

    def _name(self, header: str) -> str | None:
        value = self._named[header]
        return value if _FORMS[header].fullmatch(value) else None
