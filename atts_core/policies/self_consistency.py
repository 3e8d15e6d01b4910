"""`self-consistency`: the draft writes m chains, and the answer of most of them is taken.

Source: Wang et al., "Self-Consistency Improves Chain of Thought Reasoning in Language Models",
arXiv 2203.11171; it stops by the Beta rule of Aggarwal et al., "Let's Sample Step by Step", arXiv
2305.11860: as soon as the leading answer beats the second with probability 0.95.

A tie goes to the answer with the chain of lowest nll by the draft itself, where its engine tells
log-probabilities, else to the one given first. Deviation: the Beta rule's source samples one chain
after the other; here all are under way when it stops them.
"""

from __future__ import annotations

from atts_core.candidate import Candidate
from atts_core.events import Ending
from atts_core.policies.lone import alone
from atts_core.policies.policy import Policy, each


async def solve(candidate: Candidate) -> Ending:
    told = min(1, candidate.run.draft.capabilities.top_logprobs)
    return await alone(candidate, "draft", top_logprobs=told)


SELF_CONSISTENCY = Policy(
    "self-consistency", each(solve), {"aggregation": "majority", "confidence": 0.95}
)
