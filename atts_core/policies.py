"""Policies by name: each moves one candidate from its first token to its end.

They share candidates, engines, stopping, answers and votes, so that they differ in nothing else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import monotonic
from types import MappingProxyType
from typing import Literal, TypeAlias

from atts_core import events
from atts_core.allowance import Allowance
from atts_core.candidate import Candidate
from atts_core.engine import result
from atts_core.randomness import Purpose

Policy: TypeAlias = Callable[[Candidate], Awaitable[events.Ending]]

_PIECE = 512
"""Tokens a lone model writes between two looks for its final answer."""


async def atts(candidate: Candidate) -> events.Ending:
    """Draft, verify, take over (arXiv 2509.15148)."""
    return await candidate.advance()


async def draft_only(candidate: Candidate) -> events.Ending:
    """The draft model alone, without turns: what small models can do by sampling often."""
    return await _alone(candidate, "draft")


async def target_only(candidate: Candidate) -> events.Ending:
    """The target model alone, without turns: what quality costs at full price."""
    return await _alone(candidate, "target")


async def _alone(candidate: Candidate, model: Literal["draft", "target"]) -> events.Ending:
    """One model writes until its answer or the length that atts chains may have at most."""
    run, chain, method = candidate.run, candidate.chain, candidate.run.method
    engine = run.draft if model == "draft" else run.target
    reading = chain.by_draft if model == "draft" else chain.by_target
    purpose: Purpose = "draft" if model == "draft" else "takeover"
    allowance = Allowance(None) if model == "draft" else run.allowance
    cap = method.turns * max(method.draft_tokens, method.target_tokens)
    while room := candidate.room(min(_PIECE, cap - chain.tokens)):
        if allowance.spent:
            return "tokens"
        begins, began = len(chain.text), monotonic()
        with allowance.of(room) as grant:
            request = candidate.request(reading, grant.tokens, purpose)
            segment = await result(engine.generate(request))
            grant.used = segment.tokens
        chain.written(reading, segment)
        run.emit(
            events.SegmentWritten(
                run.at,
                candidate.index,
                chain.turn,
                model=model,
                text=segment.text,
                tokens=segment.tokens,
                finish=segment.finish,
                seconds=monotonic() - began,
                cost=segment.cost,
            )
        )
        ending = candidate.ending(begins, segment.finish)
        if ending is not None:
            return ending
        if segment.tokens == 0:  # what room is left holds no whole character
            return candidate.full()
        chain.turn += 1
    return "tokens" if chain.tokens >= cap else candidate.full()


POLICIES: MappingProxyType[str, Policy] = MappingProxyType(
    {"atts": atts, "draft-only": draft_only, "target-only": target_only}
)
