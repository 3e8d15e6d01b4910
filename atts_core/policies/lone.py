"""`draft-only` and `target-only`: one model writes all chains, and no turns divide them.

What small models can do by sampling often, and what quality costs at full price. A chain ends with
its answer, or as long as one of `atts` may be. `target-only` with `confidence: 0.95` is
self-consistency on the target.
"""

from __future__ import annotations

from functools import partial

from atts_core.candidate import Candidate, Model
from atts_core.events import Ending
from atts_core.policies.policy import Policy, each
from atts_core.types import Score, Segment

PIECE = 512
"""Tokens a lone model writes between two looks for its final answer."""


async def piece(
    candidate: Candidate, model: Model, limit: int = PIECE, *, top_logprobs: int = 0
) -> tuple[Segment | None, Ending | None]:
    """One model writes a piece of its chain: the piece, if there was room, and how the chain ended.

    With `top_logprobs` the chain's nll is the model's own.
    """
    run, chain = candidate.run, candidate.chain
    cap = run.method.chain_tokens
    room = candidate.room(min(limit, cap - chain.tokens))
    if not room:
        return None, "tokens" if chain.tokens >= cap else candidate.full()
    if model == "target" and run.allowance.spent:
        return None, "tokens"
    begins = len(chain.text)
    segment = await candidate.write(model, room, top_logprobs=top_logprobs)
    chain.written(chain.by_draft if model == "draft" else chain.by_target, segment)
    if segment.likelihoods is not None and segment.tokens:
        chain.scores.append(Score(-float(segment.likelihoods.logprobs.sum()), segment.tokens))
    ending = candidate.ending(begins, segment.finish)
    if ending is None and not segment.tokens:
        ending = candidate.full()
    if ending is None:
        chain.turn += 1
    return segment, ending


async def alone(candidate: Candidate, model: Model, *, top_logprobs: int = 0) -> Ending:
    """One model writes until its answer or the length that atts chains may have at most."""
    ending = None
    while ending is None:
        _, ending = await piece(candidate, model, top_logprobs=top_logprobs)
    return ending


DRAFT_ONLY = Policy("draft-only", each(partial(alone, model="draft")))
TARGET_ONLY = Policy("target-only", each(partial(alone, model="target")))
