"""Sending spans to a collector, by OpenTelemetry's SDK and OTLP over HTTP.

A collector that is away costs a bounded queue and one line in the log: nothing waits for it. Where it is,
with which headers and certificates, and what this process is called, is read by the SDK from the standard
``OTEL_*`` variables.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import requests
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from shared.config import ConfigurationError

FLUSH_S = 3.0
"""Longest that the end of a process waits for the spans that are left to be sent."""

PROTOCOL = "http/protobuf"
"""The one protocol of OTLP that is spoken."""

LARGE_QUEUE = 256
"""Spans that wait at most when each may hold a conversation; the SDK's own limit is for small ones."""

_PROTOCOL_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")

_SILENCED = ("opentelemetry.exporter", "opentelemetry.sdk._shared_internal", "urllib3")
"""Loggers that would write a line for each try and each span that is dropped."""

log = logging.getLogger(__name__)


def start_export(ratio: float, service: str, version: str, *, large: bool) -> Callable[[], None]:
    """Have the process's spans sent; returns what ends that.

    Args:
        ratio: Share of the traces that begin here which is kept; others are as where they began.
        service: Name of the process, unless the environment has another.
        version: Its version.
        large: Whether spans hold conversations.

    Raises:
        ConfigurationError: the environment asks for what the exporter cannot do.
    """
    exporter = Reporting.of(os.environ)
    for name in _SILENCED:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(ratio)),
        resource=_resource(service, version),
        shutdown_on_exit=False,  # it would wait for half a minute
    )
    queue, batch = (LARGE_QUEUE, LARGE_QUEUE // 8) if large else (None, None)
    provider.add_span_processor(BatchSpanProcessor(exporter, queue, max_export_batch_size=batch))
    trace.set_tracer_provider(provider)
    return lambda: _end(provider, exporter)


def _hide_header(record: logging.LogRecord) -> bool:
    """Keep the header that cannot be read out of the complaint about it: such a header holds a token."""
    record.msg, record.args = (
        "OTEL_EXPORTER_OTLP_HEADERS: one is not name=value, URL encoded; it is not sent",
        (),
    )
    return True


def _refuse_other_protocols(environ: Mapping[str, str]) -> None:
    for name in _PROTOCOL_VARIABLES:
        if environ.get(name, PROTOCOL) not in ("", PROTOCOL):
            raise ConfigurationError(
                f"{name}: traces are sent by {PROTOCOL} only; give the collector's port for it (usually 4318)"
            )


def _resource(service: str, version: str) -> Resource:
    own = {"service.name": service, "service.namespace": "konstruct", "service.version": version}
    return Resource.create().merge(Resource(own)).merge(OTELResourceDetector().detect())


def _place(environ: Mapping[str, str]) -> str:
    """Name the collector, without what its URL may hold beside."""
    url = next((environ[name] for name in _ENDPOINT_VARIABLES if environ.get(name)), "http://localhost:4318")
    parts = urlsplit(url)
    return (
        f"{parts.scheme}://{parts.hostname}:{parts.port}"
        if parts.port
        else f"{parts.scheme}://{parts.hostname}"
    )


def _end(provider: TracerProvider, exporter: Reporting) -> None:
    ending = threading.Thread(target=provider.shutdown, name="last-spans", daemon=True)
    ending.start()
    ending.join(FLUSH_S)
    if ending.is_alive():
        exporter.shutdown()


class _Session(requests.Session):
    """Remembers what came of the last try; the exporter tells it to nobody but its log."""

    def __init__(self) -> None:
        super().__init__()
        self.last = "nothing was sent"
        """A status, or what kind of error it was."""

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send, and remember."""
        try:
            response = super().send(request, **kwargs)
        except requests.RequestException as error:
            self.last = type(error).__name__
            raise
        self.last = f"HTTP {response.status_code}"
        return response


class Reporting(SpanExporter):
    """Sends spans; says once that they cannot be sent, and once that they can again."""

    def __init__(self, session: _Session, place: str) -> None:
        self._session = session
        self._place = place
        self._exporter = OTLPSpanExporter(session=session)
        self._lost = 0
        self._closed = threading.Event()

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Reporting:
        """Make one for what `environ` says.

        Raises:
            ConfigurationError: it asks for what the exporter cannot do.
        """
        _refuse_other_protocols(environ)
        logging.getLogger("opentelemetry.util.re").addFilter(_hide_header)
        try:
            return cls(_Session(), _place(environ))
        except ValueError as error:
            raise ConfigurationError(f"OTEL_EXPORTER_OTLP_*: a value is refused: {error}") from None

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send `spans`; they are lost when that fails."""
        result = self._exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            if self._lost:
                log.info("spans are sent to %s again; %d were lost", self._place, self._lost)
            self._lost = 0
            return result
        if not self._lost:
            log.warning(
                "spans cannot be sent to %s and are lost until they can (%s)", self._place, self._session.last
            )
        self._lost += len(spans)
        return result

    def shutdown(self) -> None:
        """End; a try that is under way is given up."""
        if not self._closed.is_set():
            self._closed.set()
            self._exporter.shutdown()  # type: ignore[no-untyped-call]
