"""Traces of a router: its requests and runs, and the calls that its engines make for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Protocol

from opentelemetry.trace import SpanKind

from atts_core.engine import Capabilities, Engine, Generate, Pending, Rate
from atts_core.types import EngineCost, Ids, Message, Scored, Segment
from services.service import Service
from services.settings import Settings
from services.tracing import attributes as a
from services.tracing.context import TRACEPARENT, within
from services.tracing.runs import RunSpans
from services.tracing.spans import Spans, end, opened, traceparent
from services.watching import Consumer, Exchange, SeenRun, Watcher

TRACED = {"/v1/chat/completions", "/v1/completions"}
"""Paths that are worth a trace: what is asked there begins a run."""


class Traces:
    """A watcher: a span for each request, and `RunSpans` for the run it begins.

    A run without a traced request is not traced.
    """

    def __init__(self, spans: Spans, model: str) -> None:
        self.spans = spans
        self._model = model
        self._runs: dict[str, RunSpans] = {}

    @contextmanager
    def request(self, exchange: Exchange) -> Iterator[None]:
        if exchange.path not in TRACED:
            yield
            return
        span = self.spans.start(
            exchange.method, exchange.headers, {"http.request.method": exchange.method},
            kind=SpanKind.SERVER,
        )  # fmt: skip
        parent = traceparent(span)
        if parent is not None:
            exchange.trace = f"{span.get_span_context().trace_id:032x}"
        try:
            with within(parent):
                yield
        finally:
            status = exchange.status or 0
            span.update_name(f"{exchange.method} {exchange.route}")
            span.set_attributes(
                {
                    "http.route": exchange.route,
                    "http.response.status_code": status,
                    "atts.request_id": exchange.id,
                    "atts.run": exchange.run or "",
                    "atts.client_left": exchange.left,
                }
            )
            if exchange.error is not None:
                span.set_attribute(a.ERROR, exchange.error)
            end(span, f"status {status}" if status >= 500 else None)

    @contextmanager
    def run(self, run: SeenRun) -> Iterator[Consumer]:
        parent = TRACEPARENT.get()
        if parent is None:
            yield lambda event: None
            return
        spans = self._runs[run.id] = RunSpans(self.spans, run, self._model, parent)
        try:
            yield spans
        finally:
            del self._runs[run.id]
            spans.end()

    def call(self, chain: str, role: str) -> str | None:
        """The `traceparent` of a call for `chain`; None where its run is not traced."""
        run, _, tail = chain.rpartition("/")
        spans = self._runs.get(run)
        return None if spans is None else spans.call(tail, role)


class TracedEngine:
    """An engine whose calls carry the trace of the run they are made for."""

    def __init__(self, engine: Engine, traces: Traces, writes: str) -> None:
        """`writes`: the role it generates in, `draft` or `write`."""
        self._engine = engine
        self._traces = traces
        self._writes = writes

    @property
    def capabilities(self) -> Capabilities:
        return self._engine.capabilities

    async def render(self, messages: Sequence[Message]) -> Ids:
        return await self._engine.render(messages)

    def generate(self, request: Generate) -> Pending[Segment]:
        with within(self._traces.call(request.chain, self._writes)):
            return self._engine.generate(request)

    def score(self, request: Rate, segment: Pending[Segment]) -> Pending[Scored]:
        with within(self._traces.call(request.chain, "score")):
            return self._engine.score(request, segment)

    async def abort(self, received: Mapping[str, int]) -> EngineCost:
        return await self._engine.abort(received)


def trace(service: Service, watchers: list[Watcher], spans: Spans, model: str) -> None:
    """Trace the requests and runs of a service from now on."""
    traces = Traces(spans, model)
    watchers.append(traces)
    service.draft = TracedEngine(service.draft, traces, "draft")
    service.target = TracedEngine(service.target, traces, "write")


class Backend(Protocol):
    """What is traced of a router."""

    settings: Settings
    service: Service
    watchers: list[Watcher]


@asynccontextmanager
async def traced(router: Backend, deployment: str, replica: str) -> AsyncIterator[None]:
    """Trace the router until the context ends."""
    settings = router.settings
    spans = opened(settings.tracing, deployment, replica)
    trace(router.service, router.watchers, spans, settings.served_model)
    try:
        yield
    finally:
        # What waits is sent, or given up; the loop goes on meanwhile.
        await asyncio.to_thread(spans.close)
