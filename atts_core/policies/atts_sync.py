"""`atts-sync`: `atts` with a barrier after every turn and a ranking in place of the gate.

Source: the ordering that arXiv 2509.15148 does away with. All active candidates meet after each
turn, are ranked by their score s, and the worst ⌈B·active/m⌉ are taken over, B = rate · m. Of equal
scores the candidate with the higher number ranks lower. Rounding up, the fewer candidates are left
the more of them are taken over: the realised rate is above the nominal one.

It is a baseline: the gate neither judges nor learns here.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from atts_core import events
from atts_core.acceptance import Decision
from atts_core.calibration.pvalues import p_value
from atts_core.candidate import Candidate, Run
from atts_core.events import Ending
from atts_core.policies.policy import Policy, Solve
from atts_core.types import Question, Score

_ROUNDING = 1e-9
"""Of a product that should be whole: 0.7 · 10 is a little more than 7."""


@dataclass(frozen=True)
class Ranking:
    """The scored candidates of one meeting, `ranked` with the most plausible first."""

    scores: Mapping[int, Score]
    ranked: Sequence[int]
    worst: Set[int]

    def decision(self, index: int) -> Decision:
        """One candidate's place as a decision whose bank are the scores of the others."""
        mine, size = self.scores[index].conformity, len(self.ranked)
        others = [s.conformity for other, s in self.scores.items() if other != index]
        return Decision(
            taken_over=index in self.worst,
            p_value=p_value(sum(s > mine for s in others), others.count(mine), size - 1),
            p_smoothed=(self.ranked.index(index) + 1) / size,
            threshold=(size - len(self.worst)) / size,
            coin=1.0,
            coverage="ranking",
            bank="ranking",
            bank_size=size - 1,
            cold=False,
        )


class Meeting:
    """Where the active candidates of one run wait for each other after every turn.

    A candidate is active until it `leave`s, whatever the reason: nobody waits for it then. It is
    decided when all who are active are here, by whoever comes, or leaves, last.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._active = set(range(run.method.candidates))
        self._here: dict[int, tuple[Candidate, Score | None, asyncio.Future[bool]]] = {}

    async def judge(self, candidate: Candidate, score: Score | None) -> bool:
        """Wait for the others; whether the candidate is among the worst."""
        verdict: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._here[candidate.index] = candidate, score, verdict
        self._decide_if_complete()
        return await verdict

    def leave(self, candidate: Candidate) -> None:
        """The candidate has ended, failed, or was cancelled, perhaps while it waited here."""
        self._active.discard(candidate.index)
        self._here.pop(candidate.index, None)
        self._decide_if_complete()

    def _decide_if_complete(self) -> None:
        if self._here.keys() != self._active:
            return
        here, self._here = self._here, {}
        count = math.ceil(self._run.method.rate * len(here) - _ROUNDING)
        scores = {index: score for index, (_, score, _) in here.items() if score is not None}
        ranked = sorted(scores, key=lambda index: (-scores[index].conformity, index))
        ranking = Ranking(scores, ranked, set(ranked[max(0, len(ranked) - count) :]))
        for index, (candidate, score, verdict) in here.items():
            if score is not None:
                self._tell(candidate, ranking)
            if not verdict.done():  # its candidate may have been cancelled in this very moment
                verdict.set_result(index in ranking.worst)

    def _tell(self, candidate: Candidate, ranking: Ranking) -> None:
        run = self._run
        decision = ranking.decision(candidate.index)
        run.emit(events.Decided(run.at, candidate.index, candidate.chain.turn, decision))


def begin(run: Run, question: Question) -> Solve:
    meeting = Meeting(run)

    async def solve(candidate: Candidate) -> Ending:
        try:
            return await candidate.advance(meeting.judge)
        finally:
            meeting.leave(candidate)

    return solve


ATTS_SYNC = Policy("atts-sync", begin, together=True)
