"""One deployment class around an engine, bound twice: as the draft and as the target."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from ray.serve import get_replica_context

from atts_core.engine import Capabilities, Generate, Rate, result, start
from atts_core.types import EngineCost, Ids, Message, Scored, Segment
from services.engines import loading
from services.engines.settings import Kind
from services.metrics.backend import RayBackend
from services.metrics.board import Board
from services.metrics.looks import look_at_engine
from services.pair import require_scores
from services.settings import MetricsSettings


class ModelServer:
    """A shim: Serve's calls in, the engine's verbs out.

    A cancelled call cancels its request inside the engine; an engine that has died fails the
    health check, so that Serve replaces the replica.
    """

    def __init__(
        self, settings: Kind, *, judges: bool = False, metrics: MetricsSettings | None = None
    ) -> None:
        """Load the engine; `judges`: as the target, so BadInput where it cannot rate a text."""
        self._engine = loading.load(settings)
        if judges:
            require_scores(self._engine.capabilities)
        self._replica: str = get_replica_context().replica_tag
        # Serve makes replicas on their event loop; the task ends with it.
        if metrics is not None and metrics.enabled:
            self._role = "target" if judges else "draft"
            self._board = Board(RayBackend())
            self._measuring = asyncio.create_task(
                self._board.repeat(self._look, metrics.every_seconds), name="metrics"
            )

    async def capabilities(self) -> Capabilities:
        return self._engine.capabilities

    async def render(self, messages: list[Message]) -> Ids:
        return await self._engine.render(messages)

    async def generate(self, request: Generate) -> Segment:
        segment = await result(self._engine.generate(request))
        return replace(segment, cost=self._signed(segment.cost))

    async def score(self, request: Rate, segment: Segment) -> Scored:
        """Serve has resolved the segment's reference: it came straight from the other pool."""
        scored = await result(self._engine.score(request, start(_given(segment))))
        return replace(scored, cost=self._signed(scored.cost))

    async def status(self) -> dict[str, Any]:
        return {"replica": self._replica, **self._engine.status()}

    def _look(self) -> None:
        engine = self._engine
        look_at_engine(self._board, self._role, engine.capabilities.model, engine.status())

    def check_health(self) -> None:
        self._engine.check()

    def _signed(self, cost: EngineCost) -> EngineCost:
        return replace(cost, replica=self._replica)


async def _given(segment: Segment) -> Segment:
    return segment
