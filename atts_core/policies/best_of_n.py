"""`best-of-n`: the draft writes m chains, the target reads each once and the likeliest wins.

Source: Stiennon et al., "Learning to summarize from human feedback", arXiv 2009.01325, and many
since. Deviation: they rank by a reward model; here the target's mean nll takes its place, the score
that the other policies have too.
"""

from __future__ import annotations

from time import monotonic

import numpy as np

from atts_core import events
from atts_core.candidate import Candidate
from atts_core.engine import Rate, Ready, result
from atts_core.events import Ending
from atts_core.policies.lone import piece
from atts_core.policies.policy import Policy, each
from atts_core.scoring import score_of
from atts_core.types import EngineCost, Segment, as_ids


async def solve(candidate: Candidate) -> Ending:
    """Write to the end, minding what the target can read, and have it scored."""
    chain, pieces = candidate.chain, []
    question = chain.by_target.history
    ending = None
    while ending is None:
        segment, ending = await piece(candidate, "draft")
        if segment is not None and segment.tokens:
            chain.by_target.told(segment.text)
            pieces.append(segment)
    if pieces:
        await _score(candidate, Rate(candidate.name, question), _joined(pieces))
    return ending


async def _score(candidate: Candidate, request: Rate, whole: Segment) -> None:
    run, began = candidate.run, monotonic()
    scored = await candidate.receive("target", result(run.target.score(request, Ready(whole))))
    if not len(scored.ids):
        return
    score = score_of(scored)
    candidate.chain.scores.append(score)
    run.emit(
        events.ChainScored(
            run.at,
            candidate.index,
            nll=score.nll,
            tokens=score.tokens,
            seconds=monotonic() - began,
            cost=scored.cost,
        )
    )


def _joined(pieces: list[Segment]) -> Segment:
    """The whole chain as if the draft had written it at once."""
    return Segment(
        text="".join(segment.text for segment in pieces),
        ids=as_ids(np.concatenate([segment.ids for segment in pieces])),
        finish=pieces[-1].finish,
        vocabulary=pieces[0].vocabulary,
        tail_ids=pieces[0].tail_ids,
        cost=EngineCost(),
    )


BEST_OF_N = Policy("best-of-n", each(solve), {"aggregation": "best"})
