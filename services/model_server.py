"""One deployment class around an engine, bound twice: as the draft and as the target."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import ray
from ray.serve import get_replica_context

from atts_core.engine import Capabilities, Generate, Rate, result, start
from atts_core.errors import AttsError
from atts_core.settings import Method
from atts_core.types import EngineCost, Ids, Message, Scored, Segment
from services import capacity
from services.engines import loading
from services.engines.settings import Kind, VllmSettings
from services.logs import write_logs
from services.metrics.backend import RayBackend
from services.metrics.board import Board
from services.metrics.looks import look_at_engine
from services.pair import require_scores
from services.settings import LogSettings, MetricsSettings, TracingSettings

if TYPE_CHECKING:
    from services.tracing.calls import CallSpans

log = logging.getLogger(__name__)


class ModelServer:
    """A shim: Serve's calls in, the engine's verbs out.

    A cancelled call cancels its request inside the engine; an engine that has died fails the
    health check, so that Serve replaces the replica.
    """

    def __init__(
        self,
        settings: Kind,
        *,
        judges: bool = False,
        method: Method | None = None,
        metrics: MetricsSettings | None = None,
        logs: LogSettings | None = None,
        tracing: TracingSettings | None = None,
    ) -> None:
        """Load the engine; `judges`: as the target, so BadInput where it cannot rate a text.

        With the `method` of the questions to come, BadInput where they cannot fit: by what the
        node's GPU has, before anything is loaded, and by what the engine then has.
        """
        self._role = "target" if judges else "draft"
        if logs is not None:  # first: what is said while the engine is loaded is kept, too
            write_logs(logs, get_replica_context().deployment, get_replica_context().replica_tag)
        if method is not None:
            wanted = capacity.placement(self._role, settings, _gpu(settings), method)
            if wanted is not None:
                capacity.require_placement(wanted)
        self._engine = loading.load(settings)
        if judges:
            require_scores(self._engine.capabilities)
        if method is not None:
            tight = capacity.require_chain(self._role, self._engine.capabilities, method)
            if tight is not None:
                log.warning(tight)
        context = get_replica_context()
        self._replica: str = context.replica_tag
        self._spans: CallSpans | None = None
        if tracing is not None and tracing.enabled:
            # OpenTelemetry is loaded where it is wanted only.
            from services.tracing.calls import CallSpans
            from services.tracing.spans import opened

            spans = opened(tracing, context.deployment, self._replica)
            self._spans = CallSpans(spans, self._engine.capabilities, self._role)
        # Serve makes replicas on their event loop; the task ends with it.
        if metrics is not None and metrics.enabled:
            self._board = Board(RayBackend())
            self._measuring = asyncio.create_task(
                self._board.repeat(self._look, metrics.every_seconds), name="metrics"
            )

    async def capabilities(self) -> Capabilities:
        return self._engine.capabilities

    async def render(self, messages: list[Message]) -> Ids:
        return await self._engine.render(messages)

    async def generate(self, request: Generate, trace: str | None = None) -> Segment:
        """`trace`: the span that the call is made for, as W3C's `traceparent`."""
        with self._seen(request, trace) as done:
            segment = await result(self._engine.generate(request))
            segment = replace(segment, cost=self._signed(segment.cost))
            done(segment)
            return segment

    async def score(self, request: Rate, segment: Segment, trace: str | None = None) -> Scored:
        """Serve has resolved the segment's reference: it came straight from the other pool."""
        with self._seen(request, trace) as done:
            scored = await result(self._engine.score(request, start(_given(segment))))
            scored = replace(scored, cost=self._signed(scored.cost))
            done(scored)
            return scored

    @contextmanager
    def _seen(
        self, request: Generate | Rate, trace: str | None
    ) -> Iterator[Callable[[Segment | Scored], None]]:
        """A call with its span, where it has a trace, and a line in the logs where it fails."""
        span: AbstractContextManager[Callable[[Segment | Scored], None]] = nullcontext(_ignore)
        if trace is not None and self._spans is not None:
            span = self._spans.call(request, trace)
        try:
            with span as done:
                yield done
        except AttsError as error:
            kind = type(error).__name__
            log.warning("a call for the chain %s failed: %s: %s", request.chain, kind, error)
            raise

    async def abort(self, received: dict[str, int], replica: str) -> EngineCost:
        """Nothing where `replica`, which is asked, is gone: this is another, in its place."""
        if replica != self._replica:
            return EngineCost()
        return await self._engine.abort(received)

    async def status(self) -> dict[str, Any]:
        return {"replica": self._replica, **self._engine.status()}

    def _look(self) -> None:
        look_at_engine(self._board, self._role, self._engine)

    def __del__(self) -> None:
        """Serve's own call when the replica ends, also where `__init__` did not: spans leave."""
        spans: CallSpans | None = getattr(self, "_spans", None)
        if spans is not None:
            spans.close()

    def check_health(self) -> None:
        self._engine.check()

    def _signed(self, cost: EngineCost) -> EngineCost:
        return replace(cost, replica=self._replica)


def _gpu(settings: Kind) -> str | None:
    """The type of the GPUs that this replica has, as its node's label says; None: it has none."""
    here = ray.get_runtime_context()
    # GPUs that share a model are those of the placement group's bundles, not this process's.
    shared = isinstance(settings, VllmSettings) and settings.tensor_parallel > 1
    if not shared and not here.get_accelerator_ids().get("GPU"):
        return None
    label: str | None = here.get_node_labels().get("ray.io/accelerator-type")
    return label


def _ignore(result: Segment | Scored) -> None:
    """Nobody wants to know."""


async def _given(segment: Segment) -> Segment:
    return segment
