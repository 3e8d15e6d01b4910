"""`deepconf-online`: chains that the draft is not confident of are stopped, the others weighed.

Source: Fu et al., "Deep Think with Confidence", arXiv 2508.15260, and its published code. A token's
confidence is minus the mean log-probability of the 20 likeliest tokens in its place. A group's is
the mean over the last W tokens, and a chain is as confident as its lowest group (a chain shorter
than W is one group). Some warm-up chains, written to their end, set the bar: the 10th percentile of
their confidences. Each later chain is stopped when a group falls below it. Chains below the bar do
not vote, warm-up chains among them; the others vote with their confidence.

Deviations: W is one turn, `draft_tokens`, in place of 2,048 of up to 64,000 tokens, and the bar is
looked at after every turn in place of every token, so that a chain is stopped up to a turn later.
16 chains warm up, or half of them where there are fewer than 32. The 10th percentile is the paper's
DeepConf-high (the published script has the 90th, DeepConf-low). The paper's consensus over growing
numbers of chains is left to this server's own stops.
"""

from __future__ import annotations

import asyncio
import math

import numpy as np
import numpy.typing as npt

from atts_core.candidate import Candidate, Run
from atts_core.engine import Engine
from atts_core.events import Ending
from atts_core.policies.lone import piece
from atts_core.policies.policy import Policy, Solve
from atts_core.types import Question

TOP = 20
WARM_UP = 16
PERCENTILE = 10

Confidences = npt.NDArray[np.float32]


def lowest_group(confidences: Confidences, window: int) -> float:
    """The lowest mean over `window` tokens in a row, over all where there are fewer, or inf."""
    if not len(confidences):
        return math.inf
    sums = np.concatenate([[0.0], np.cumsum(confidences, dtype=np.float64)])
    window = min(window, len(confidences))
    return float(np.min(sums[window:] - sums[:-window]) / window)


class _Run:
    """The bar of one run, and the warm-up chains that set it."""

    def __init__(self, run: Run) -> None:
        self._window = run.method.draft_tokens
        self._warming = max(1, min(WARM_UP, run.method.candidates // 2))
        self._open = self._warming
        self._warm: list[Candidate] = []
        self._bar = -math.inf
        self._bar_is_set = asyncio.Event()

    async def solve(self, candidate: Candidate) -> Ending:
        if candidate.index >= self._warming:
            await self._bar_is_set.wait()
            return await self._write(candidate)
        try:
            ending = await self._write(candidate)
            self._warm.append(candidate)
            return ending
        finally:
            self._warmed_up()

    async def _write(self, candidate: Candidate) -> Ending:
        """Write on while it is confident enough, with the weight that its vote has by now."""
        confidences: Confidences = np.empty(0, np.float32)
        candidate.weight = 0.0
        ending: Ending | None = None
        while ending is None:
            segment, ending = await piece(candidate, "draft", self._window, top_logprobs=TOP)
            if segment is not None and segment.likelihoods is not None:
                confidences = np.concatenate([confidences, segment.likelihoods.confidences])
            low = lowest_group(confidences, self._window)
            if ending is None and len(confidences) >= self._window and low < self._bar:
                ending = "stopped"
            candidate.weight = low if self._bar <= low < math.inf else 0.0
        return ending

    def _warmed_up(self) -> None:
        """A warm-up chain has ended, failed or was cancelled; the last of them sets the bar."""
        self._open -= 1
        if self._open:
            return
        weights = [candidate.weight for candidate in self._warm if candidate.weight]
        if weights:
            self._bar = float(np.percentile(weights, PERCENTILE))
        for candidate in self._warm:
            if candidate.weight is None or candidate.weight < self._bar:
                candidate.weight = 0.0
        self._bar_is_set.set()


def begin(run: Run, question: Question) -> Solve:
    return _Run(run).solve


async def lacks(draft: Engine, target: Engine) -> str | None:
    can = draft.capabilities
    if can.top_logprobs >= TOP:
        return None
    return (
        f"it needs the {TOP} largest log-probabilities of each written token, and the draft, "
        f"{can.model} ({can.engine}), gives {can.top_logprobs or 'none'}"
    )


DEEPCONF_ONLINE = Policy(
    "deepconf-online", begin, {"aggregation": "weighted"}, lacks=lacks, heaviest=math.inf
)
