"""`atts`: draft, verify, take over; no candidate waits for another.

Source: Xiong et al., arXiv 2509.15148. The loop is `Candidate.advance`, the decision `Gate.decide`.
"""

from __future__ import annotations

from atts_core.candidate import Candidate
from atts_core.events import Ending
from atts_core.policies.policy import Policy, each
from atts_core.types import Score


async def by_gate(candidate: Candidate, score: Score | None) -> bool:
    """A segment is rejected for its rank among the bank's scores."""
    return score is not None and candidate.decide(score).taken_over


async def solve(candidate: Candidate) -> Ending:
    return await candidate.advance(by_gate)


ATTS = Policy("atts", each(solve), gated=True)
