"""What every engine does with a request before and after its model's work."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from time import monotonic
from typing import Any, TypeVar

import numpy as np

from atts_core.engine import (
    Aborted,
    Capabilities,
    Generate,
    Pending,
    Rate,
    checked,
    ended,
    start,
)
from atts_core.errors import EngineError
from atts_core.types import EngineCost, Ids, Message, Scored, Segment
from services.engines.chat import Chat
from services.engines.inputs import Inputs
from services.engines.score_memory import LogProbs, ScoreMemory

R = TypeVar("R", Segment, Scored)


class TextEngine(ABC):
    """The verbs of `atts_core.engine.Engine` over one model, which `_who` names in errors."""

    _who: str
    _chat: Chat
    _inputs: Inputs
    _capabilities: Capabilities

    def __init__(self) -> None:
        self._remembered = ScoreMemory()
        self._aborted = Aborted()
        self._requests: dict[asyncio.Task[Any], str] = {}
        """Those under way, and their chains."""

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def render(self, messages: Sequence[Message]) -> Ids:
        """The conversation's ids; raises PromptTooLong, or BadInput for a refused role."""
        return self._chat.render(messages)

    def generate(self, request: Generate) -> Pending[Segment]:
        """Continue a history; a request that leaves no room for a token raises EngineError."""
        return self._started(request.chain, partial(self._generate, request))

    def score(self, request: Rate, segment: Pending[Segment]) -> Pending[Scored]:
        """Rate a segment after a history of at least one token."""
        return self._started(request.chain, partial(self._score, request, segment))

    async def abort(self, received: Mapping[str, int]) -> EngineCost:
        """See `atts_core.engine.Engine.abort`. A request that comes later still is refused."""
        self._aborted.close(received)
        left = [task for task, chain in self._requests.items() if chain in received]
        costs = [await self._take_out(received)]
        if left:  # what the model did not have: it waits for another's work, or is about to end
            await ended(left)
            costs.append(await self._take_out(received))
        return EngineCost.total([*costs, self._aborted.take(received)])

    @abstractmethod
    async def _take_out(self, chains: Collection[str]) -> EngineCost:
        """Take the chains' requests out of the model, which fail.

        Returns what cancelled ones had cost, of those that `_aborted` has not been told of.
        """

    def _started(self, chain: str, work: Callable[[], Awaitable[R]]) -> asyncio.Task[R]:
        task = start(self._finished(chain, work))
        self._requests[task] = chain
        task.add_done_callback(self._requests.pop)
        return task

    async def _finished(self, chain: str, work: Callable[[], Awaitable[R]]) -> R:
        if self._aborted.over(chain):
            raise EngineError(f"{self._who}, {chain}: the chain was aborted")
        result = await work()
        self._aborted.finished(chain, result)
        return result

    def status(self) -> dict[str, Any]:
        """What the engine does now, and totals since its start; tokens where not said else.

        `remembered_tokens` of the `rated_tokens` had been rated before: see `ScoreMemory`.
        """
        status, remembered = self._own_status(), self._remembered
        for name in ("prompt_tokens", "cached_tokens"):
            status[name] += remembered.read
        status["rated_tokens"] += remembered.rated
        status["remembered_tokens"] = remembered.rated
        status["hit_rate"] = status["cached_tokens"] / max(1, status["prompt_tokens"])
        return status

    @abstractmethod
    def _own_status(self) -> dict[str, Any]:
        """What the engine itself has done, without what was remembered."""

    @abstractmethod
    async def _generate(self, request: Generate) -> Segment: ...

    @abstractmethod
    async def _logprobs(self, chain: str, ids: Ids, begin: int) -> tuple[LogProbs, EngineCost]:
        """Log-probabilities (nats) of `ids[begin:]`, one each, and what they cost."""

    async def _score(self, request: Rate, segment: Pending[Segment]) -> Scored:
        given = await segment
        before, tail = self._inputs.given(request.chain, request.history)
        rated = self._inputs.rated(request, before, given)
        if not len(rated):
            return Scored(rated, np.empty(0, np.float32), tail, EngineCost())
        ids = np.concatenate([before, rated])
        key, arrived = ScoreMemory.key(ids, len(before)), monotonic()
        known = await self._remembered.recall(key, len(ids))
        if known is not None:
            waited = monotonic() - arrived
            cost = EngineCost(queued=waited, prompt_tokens=len(ids), cached_tokens=len(ids))
            return Scored(ids=rated, logprobs=known, tail_ids=tail, cost=cost)
        with self._remembered.computing(key):
            logprobs, cost = await self._logprobs(request.chain, ids, len(before))
        scored = checked(Scored(rated, logprobs, tail, cost), f"{self._who}, {request.chain}")
        self._remembered.keep(key, scored.logprobs)
        return scored
