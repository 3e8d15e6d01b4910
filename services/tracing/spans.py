"""Spans and where they go: the only place that knows OpenTelemetry's SDK.

Spans wait in memory for a thread that exports them in batches. Where the backend is away, or too
slow, they are dropped there; a request never waits.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from logging.handlers import RotatingFileHandler
from typing import TypeAlias

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from atts_core.errors import BadInput
from services.recorder import prepare
from services.settings import TracingSettings

Value: TypeAlias = str | bool | int | float | Sequence[str]
Attributes: TypeAlias = dict[str, Value | None]

EXPORT_SECONDS = 1.0
"""Pause between two exports."""
TIMEOUT_SECONDS = 5.0
"""An export that takes longer has failed."""
WAITING = 16_384
"""Spans that wait for their export at most; what comes then is dropped."""


class Ids(RandomIdGenerator):
    """Random ids, but that the next span can be given one that was told to others before."""

    def __init__(self) -> None:
        self.reserved: int | None = None

    def generate_span_id(self) -> int:
        reserved, self.reserved = self.reserved, None
        return super().generate_span_id() if reserved is None else reserved


class Spans:
    """Makes spans of one process and hands them to `exporters`."""

    def __init__(
        self, exporters: Sequence[SpanExporter], *, share: float = 1.0, **resource: str
    ) -> None:
        """`share` of the traces that begin here are kept; `resource` says what process this is."""
        self._ids = Ids()
        self._provider = TracerProvider(
            sampler=ParentBasedTraceIdRatio(share),
            resource=Resource.create(
                {"service.name": "atts", "service.version": metadata.version("atts"), **resource}
            ),
            id_generator=self._ids,
        )
        for exporter in exporters:
            self._provider.add_span_processor(
                BatchSpanProcessor(
                    exporter,
                    max_queue_size=WAITING,
                    schedule_delay_millis=EXPORT_SECONDS * 1000,
                    export_timeout_millis=TIMEOUT_SECONDS * 1000,
                )
            )
        self._tracer = self._provider.get_tracer("atts")

    def start(
        self,
        name: str,
        parent: Mapping[str, str],
        attributes: Attributes,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        start: int | None = None,
        reserved: int | None = None,
    ) -> Span:
        """A span that begins at `start` (nanoseconds since 1970), now where that is None.

        `parent` are W3C's headers: a trace begins where they hold none.
        """
        self._ids.reserved = reserved
        try:
            return self._tracer.start_span(
                name,
                context=TraceContextTextMapPropagator().extract(parent),
                kind=kind,
                attributes=known(attributes),
                start_time=start,
            )
        finally:
            self._ids.reserved = None

    def new_id(self) -> int:
        return self._ids.generate_span_id()

    def flush(self) -> None:
        """Export what waits; returns after `TIMEOUT_SECONDS` at the latest."""
        self._provider.force_flush(int(TIMEOUT_SECONDS * 1000))

    def close(self) -> None:
        self._provider.shutdown()


def known(attributes: Attributes) -> dict[str, Value]:
    return {name: value for name, value in attributes.items() if value is not None}


def traceparent(span: Span) -> str | None:
    """The span as W3C's header; None where it is not kept."""
    context = span.get_span_context()
    return header(context.trace_id, context.span_id) if context.trace_flags.sampled else None


def traceparent_of(span: ReadableSpan) -> str:
    """The same of a span that has ended."""
    return header(span.context.trace_id, span.context.span_id)


def header(trace_id: int, span_id: int) -> str:
    return f"00-{trace_id:032x}-{span_id:016x}-01"


def end(span: Span, error: str | None = None, at: int | None = None) -> None:
    """End the span, now or at `at`; as failed where there is an error."""
    if error is not None:
        span.set_status(Status(StatusCode.ERROR, error))
    span.end(at)


def now() -> int:
    """Nanoseconds since 1970, as spans count."""
    return time.time_ns()


def opened(settings: TracingSettings, deployment: str, replica: str) -> Spans:
    """Spans of a replica, to where the settings say; `BadInput` where that cannot be."""
    exporters = []
    if settings.endpoint is not None:
        exporters.append(otlp(settings.endpoint))
    if settings.folder is not None:
        exporters.append(File(settings, f"spans_{deployment}_{replica}.jsonl"))
    return Spans(
        exporters,
        share=settings.share,
        **{"service.instance.id": replica, "atts.deployment": deployment},
    )


def require(settings: TracingSettings) -> None:
    """`BadInput` where spans could not go where the settings say; a receiver may be away."""
    if settings.endpoint is not None:
        otlp(settings.endpoint).shutdown()
    if settings.folder is not None:
        prepare(settings.folder)


def otlp(endpoint: str) -> SpanExporter:
    """Sends spans to a receiver; headers (a token) come from OTEL_EXPORTER_OTLP_HEADERS."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError:
        raise BadInput(
            "tracing.endpoint: the exporter is not installed here: pip install 'atts[tracing]'; "
            "tracing.folder works without",
            field="tracing.endpoint",
        ) from None
    return OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces", timeout=TIMEOUT_SECONDS)


class File(SpanExporter):
    """Writes spans into a file of the settings' folder, one JSON object a line.

    A file that has become too large is renamed (`NAME.1`, `NAME.2`, …); the oldest goes.
    """

    def __init__(self, settings: TracingSettings, name: str) -> None:
        assert settings.folder is not None, "there is where to write"
        prepare(settings.folder)
        self._file = RotatingFileHandler(
            settings.folder / name,
            maxBytes=settings.max_bytes,
            backupCount=settings.files - 1,
            delay=True,
        )

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        for span in spans:
            # What fails in there is said on standard error, by `logging` itself.
            self._file.handle(logging.makeLogRecord({"msg": span.to_json(indent=None)}))
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self._file.close()
