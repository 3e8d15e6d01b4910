"""What every engine does with a request before and after its model's work."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from atts_core.engine import Capabilities, Generate, Pending, Rate, checked, start
from atts_core.types import EngineCost, Ids, Message, Scored, Segment
from services.engines.chat import Chat
from services.engines.inputs import Inputs

LogProbs: TypeAlias = npt.NDArray[np.float32]


class TextEngine(ABC):
    """The verbs of `atts_core.engine.Engine` over one model, which `_who` names in errors."""

    _who: str
    _chat: Chat
    _inputs: Inputs
    _capabilities: Capabilities

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def render(self, messages: Sequence[Message]) -> Ids:
        """The conversation's ids; raises PromptTooLong, or BadInput for a refused role."""
        return self._chat.render(messages)

    def generate(self, request: Generate) -> Pending[Segment]:
        """Continue a history; a request that leaves no room for a token raises EngineError."""
        return start(self._generate(request))

    def score(self, request: Rate, segment: Pending[Segment]) -> Pending[Scored]:
        """Rate a segment after a history of at least one token."""
        return start(self._score(request, segment))

    @abstractmethod
    async def abort(self, chains: Sequence[str]) -> EngineCost:
        """See `atts_core.engine.Engine.abort`."""

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
        logprobs, cost = await self._logprobs(request.chain, ids, len(before))
        scored = Scored(ids=rated, logprobs=logprobs, tail_ids=tail, cost=cost)
        return checked(scored, f"{self._who}, {request.chain}")
