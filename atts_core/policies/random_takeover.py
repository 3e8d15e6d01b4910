"""`random-takeover`: as many takeovers as `atts`, by coin. It shows whether the score matters.

A baseline of our own. Segments are scored all the same: then cost and timing are those of `atts`,
votes have the same nll to settle ties with, and the decision is all that differs. It is the gate's
over an empty bank, where the smoothed p-value is the coin alone; the real bank neither judges nor
learns here.
"""

from __future__ import annotations

from atts_core import events
from atts_core.acceptance import Decision
from atts_core.calibration.pvalues import p_smoothed, p_value
from atts_core.candidate import Candidate
from atts_core.events import Ending
from atts_core.policies.policy import Policy, each
from atts_core.randomness import coin
from atts_core.types import Score


async def by_coin(candidate: Candidate, score: Score | None) -> bool:
    """A segment is rejected with the probability of the takeover rate."""
    if score is None:
        return False
    run, turn = candidate.run, candidate.chain.turn
    drawn = coin(run.seed, candidate.index, turn)
    smoothed, threshold = p_smoothed(0, 0, 0, drawn), 1 - run.method.rate
    decision = Decision(
        taken_over=smoothed > threshold,
        p_value=p_value(0, 0, 0),
        p_smoothed=smoothed,
        threshold=threshold,
        coin=drawn,
        coverage="coin",
        bank="",
        bank_size=0,
        cold=True,
    )
    run.emit(events.Decided(run.at, candidate.index, turn, decision))
    return decision.taken_over


async def solve(candidate: Candidate) -> Ending:
    return await candidate.advance(by_coin)


RANDOM_TAKEOVER = Policy("random-takeover", each(solve))
