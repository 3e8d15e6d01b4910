"""When the chains still open are cancelled: as soon as they are not worth their tokens."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb

from atts_core.aggregation import Ballot, count
from atts_core.settings import Method
from atts_core.types import Aggregation, Stopped, Vote


def stopped(
    ballots: Sequence[Ballot], still_open: int, method: Method, heaviest: float = 1.0
) -> Stopped | None:
    """Why the open chains may be cancelled now, or None where they must go on.

    No chain weighs more than `heaviest` in a weighted vote.
    """
    votes = count(ballots, method.aggregation)
    if method.stop_after is not None and sum(vote.votes for vote in votes) >= method.stop_after:
        return "count"
    if method.consensus and decided(votes, still_open, method.aggregation, heaviest):
        return "consensus"
    if method.confidence is not None and confidence(votes) >= method.confidence:
        return "confidence"
    return None


def needed(
    ballots: Sequence[Ballot], still_open: int, method: Method, heaviest: float = 1.0
) -> int:
    """How many of the open chains settle the answer if they agree with the leading one.

    Fewer running chains cannot; all, where no number of them does. Source, of the idea: Li et al.,
    "Escape Sky-high Cost: Early-stopping Self-Consistency", 2024, which asks in windows.
    """
    votes = count(ballots, method.aggregation)
    agreeing = [ballot for ballot in ballots if votes and ballot.candidate == votes[0].speaker]
    agreeing = agreeing or [Ballot(-1, "", "", 0.0)]
    for more in range(1, still_open):
        if stopped([*ballots, *agreeing * more], still_open - more, method, heaviest):
            return more
    return still_open


def decided(
    votes: Sequence[Vote], still_open: int, how: Aggregation = "majority", heaviest: float = 1.0
) -> bool:
    """Whether no open chain can change the winner any more, even if all agree against it."""
    if not votes:
        return False
    if how == "first":
        return True
    if how == "best":
        return still_open == 0  # the next chain may be the most plausible of all
    lead, *rest = (vote.votes if how == "majority" else vote.weight for vote in votes)
    # A tie would be settled by nll, which an open chain can win: the lead must be strict.
    against = still_open * (heaviest if how == "weighted" else 1.0) if still_open else 0.0
    return lead > max(rest, default=0) + against


def confidence(votes: Sequence[Vote]) -> float:
    """P(the leading answer is likelier than any other), under a uniform prior; 0 without votes.

    With a votes against b of its strongest rival, p ~ Beta(a + 1, b + 1), and
    P(p > 1/2) = P(Binomial(a + b + 1, 1/2) <= a).
    Source: the Beta stopping rule of Aggarwal et al., "Let's Sample Step by Step", 2023.
    """
    if not votes:
        return 0.0
    a, *rest = (vote.votes for vote in votes)
    n = a + max(rest, default=0) + 1
    return float(sum(comb(n, k) for k in range(a + 1)) / 2**n)
