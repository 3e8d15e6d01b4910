"""Many candidates of one question at once: started together, stopped when the answer is decided."""

from __future__ import annotations

import asyncio

from atts_core import aggregation, events
from atts_core.aggregation import Ballot
from atts_core.candidate import Candidate, Run
from atts_core.chain import Chain, Reading
from atts_core.errors import EngineError, RunFailed
from atts_core.policies import POLICIES, Policy
from atts_core.presampling import presample
from atts_core.prompts import render
from atts_core.types import Answer, Ids, Question


async def answer(run: Run, question: Question) -> Answer:
    """The candidates' common answer to the question; events go to `run.emit` as they happen.

    Cancelling the caller cancels every candidate, and with it every request inside the engines.
    Raises `PromptTooLong` before anything has started, `RunFailed` when no candidate came through.
    """
    prompts = await render(question, run.draft, run.target)
    run.emit(events.RunStarted(run.at, run.method.candidates, *map(len, prompts)))
    try:
        if run.gate.settings.presample and run.method.policy == "atts":
            await presample(run, *prompts)
        return await Vote(run, prompts).take()
    finally:
        run.gate.forget(run.id)


class Vote:
    """The running candidates of one question and the ballots of those that have ended."""

    def __init__(self, run: Run, prompts: tuple[Ids, Ids]) -> None:
        self._run = run
        self._prompts = prompts
        self._policy: Policy = POLICIES[run.method.policy]
        self._ballots: list[Ballot] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._errors: list[str] = []

    async def take(self) -> Answer:
        run = self._run
        async with asyncio.TaskGroup() as candidates:
            self._tasks = [
                candidates.create_task(self._candidate(index), name=f"{run.id}/{index}")
                for index in range(run.method.candidates)
            ]
        if not self._ballots:
            reason = self._errors[0] if self._errors else "no candidate ended"
            run.emit(events.RunFailed(run.at, reason))
            raise RunFailed(f"all {run.method.candidates} candidates failed; the first: {reason}")
        answer = aggregation.majority(self._ballots)
        run.emit(events.AnswerReady(run.at, answer))
        return answer

    async def _candidate(self, index: int) -> None:
        """One candidate to its end: its failure costs its own work only."""
        run = self._run
        by_draft, by_target = self._prompts
        shared = run.draft.capabilities.vocabulary == run.target.capabilities.vocabulary
        chain = Chain(Reading(by_draft), Reading(by_target), shared)
        run.emit(events.CandidateStarted(run.at, index))
        ending: events.Ending = "cancelled"
        error: str | None = None
        try:
            ending = await self._policy(Candidate(run, index, chain))
        except EngineError as failure:
            ending, error = "failed", f"{type(failure).__name__}: {failure}"
            self._errors.append(error)
        finally:
            run.emit(
                events.CandidateFinished(
                    run.at,
                    index,
                    ending,
                    answer=chain.answer,
                    turns=chain.turn + 1,
                    takeovers=chain.takeovers,
                    tokens=chain.tokens,
                    error=error,
                )
            )
        if error is None:
            self._ballots.append(
                Ballot(index, chain.answer, chain.text, chain.nll, chain.handed_over)
            )
        self._stop_if_decided()

    def _stop_if_decided(self) -> None:
        """Cancel the open candidates as soon as they cannot change the winner."""
        open_ones = [t for t in self._tasks if not t.done() and t is not asyncio.current_task()]
        if self._run.method.consensus and aggregation.decided(self._ballots, len(open_ones)):
            for task in open_ones:
                task.cancel()
