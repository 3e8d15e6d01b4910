"""Traces of a model server: a span for each call that comes with a trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from opentelemetry.trace import SpanKind

from atts_core.engine import Capabilities, Generate, Rate
from atts_core.types import Scored, Segment
from services.logs import current_request_id
from services.tracing import attributes as a
from services.tracing.context import within
from services.tracing.spans import Spans, end, known, traceparent

Done: TypeAlias = Callable[[Segment | Scored], None]


class CallSpans:
    """The calls of one engine."""

    def __init__(self, spans: Spans, capabilities: Capabilities, role: str) -> None:
        self._spans = spans
        self._capabilities = capabilities
        self._role = role

    def close(self) -> None:
        """Hand on what waits; returns after a few seconds at the latest."""
        self._spans.close()

    @contextmanager
    def call(self, request: Generate | Rate, parent: str) -> Iterator[Done]:
        """A span around a call; it is told the result."""
        writes = isinstance(request, Generate)
        operation = "text_completion" if writes else "score"
        span = self._spans.start(
            f"{operation} {self._capabilities.model}",
            {"traceparent": parent},
            {
                **a.of_model(self._capabilities, operation),
                **(a.of_request(request) if isinstance(request, Generate) else {}),
                "atts.role": self._role,
                "atts.chain": request.chain,
                "atts.request_id": current_request_id(),
            },
            kind=SpanKind.SERVER,
        )

        def done(result: Segment | Scored) -> None:
            tokens = result.tokens if isinstance(result, Segment) else 0
            span.set_attributes(known(a.of_cost(result.cost, tokens)))
            if isinstance(result, Segment):
                span.set_attribute(a.FINISH, (result.finish,))

        try:
            with within(traceparent(span)):
                yield done
        except BaseException as error:
            span.set_attribute(a.ERROR, type(error).__name__)
            # A call that is cancelled has not failed: nobody waited for it any more.
            end(span, type(error).__name__ if isinstance(error, Exception) else None)
            raise
        end(span)
