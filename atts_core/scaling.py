"""Many candidates of one question at once: started together, stopped when the answer is decided."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace

from atts_core import choices, events, stopping
from atts_core.aggregation import Ballot, aggregate, count
from atts_core.ballots import BallotBox
from atts_core.candidate import Candidate, Run
from atts_core.chain import Chain, Reading
from atts_core.comparison import Comparer
from atts_core.errors import ContextFull, DeadlinePassed, EngineError, RunFailed
from atts_core.policies import POLICIES, require
from atts_core.presampling import presample
from atts_core.prompts import render
from atts_core.types import Answer, Ids, Question, Stopped


async def answer(run: Run, question: Question) -> Answer:
    """The candidates' common answer to the question; events go to `run.emit` as they happen.

    Cancelling the caller cancels every candidate, and with it every request inside the engines.
    Raises `PromptTooLong`, or `PolicyLacks` where the two models cannot serve the run's policy,
    before anything has started, `DeadlinePassed` where the time is up before that, `RunFailed` when
    no candidate came through.
    """
    policy = POLICIES[run.method.policy]
    try:
        async with _in_time(run):
            await require(policy, run.draft, run.target)
            prompts = await render(question, run.draft, run.target)
            run.emit(events.RunStarted(run.at, run.method.candidates, *map(len, prompts)))
            if run.gate.settings.presample and policy.gated:
                await presample(run, *prompts)
        return await Vote(run, question, prompts).take()
    finally:
        run.gate.forget(run.id)


@asynccontextmanager
async def _in_time(run: Run) -> AsyncIterator[None]:
    """What must be done before the first chain; `DeadlinePassed` where the time is up before."""
    limit = run.method.deadline_ms
    try:
        async with asyncio.timeout(None if limit is None else _left(run, limit)) as clock:
            yield
    except TimeoutError:
        if not clock.expired():
            raise
        reason = f"the deadline of {limit} ms passed before any chain had begun"
        run.emit(events.RunFailed(run.at, reason))
        raise DeadlinePassed(reason) from None


def _left(run: Run, limit: int) -> float:
    """Seconds of the question's time that are left, counted from its start."""
    return max(0.0, limit / 1000 - run.at)


class Vote:
    """The running candidates of one question and the ballots of those that have ended."""

    def __init__(self, run: Run, question: Question, prompts: tuple[Ids, Ids]) -> None:
        method = run.method
        self._run = run
        self._prompts = prompts
        self._comparer = Comparer.of(question, method.comparison, method.tolerance, run.mathematics)
        self._box = BallotBox(self._comparer)
        self._policy = POLICIES[method.policy]
        self._solve = self._policy.begin(run, question)
        self._candidates: dict[int, Candidate] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._chains: dict[int, Chain] = {}
        self._may_start = [asyncio.Event() for _ in range(method.candidates)]
        self._cut: list[Candidate] = []
        """Those that were cancelled after they had begun."""
        self._errors: list[str] = []
        self._stopped: Stopped = "all"

    async def take(self) -> Answer:
        run = self._run
        with self._deadline():
            async with asyncio.TaskGroup() as candidates:
                self._tasks = [
                    candidates.create_task(self._candidate(index), name=f"{run.id}/{index}")
                    for index in range(run.method.candidates)
                ]
                self._start_needed()
        await self._account()
        if len(self._errors) == run.method.candidates:
            reason = self._errors[0]
            run.emit(events.RunFailed(run.at, reason))
            raise RunFailed(f"all {run.method.candidates} candidates failed; the first: {reason}")
        answer = replace(
            aggregate(self._ballots() or self._torsos(), run.method.aggregation, self._stopped),
            comparison=self._comparer.how,
            undecided=self._box.undecided,
        )
        run.emit(events.AnswerReady(run.at, answer))
        return answer

    async def _candidate(self, index: int) -> None:
        """One candidate to its end: its failure costs its own work only."""
        run = self._run
        await self._may_start[index].wait()
        by_draft, by_target = self._prompts
        shared = run.draft.capabilities.vocabulary == run.target.capabilities.vocabulary
        chain = self._chains[index] = Chain(Reading(by_draft), Reading(by_target), shared)
        run.emit(events.CandidateStarted(run.at, index))
        ending: events.Ending = "cancelled"
        error: str | None = None
        candidate = self._candidates[index] = Candidate(run, index, chain)
        try:
            ending = await self._solve(candidate)
        except ContextFull:
            ending = "context"
        except EngineError as failure:
            ending, error = "failed", f"{type(failure).__name__}: {failure}"
            self._errors.append(error)
            del self._chains[index]
        finally:
            if ending == "cancelled":
                self._cut.append(candidate)
            run.emit(
                events.CandidateFinished(
                    run.at,
                    index,
                    ending,
                    answer=self._answer(chain, ending),
                    turns=chain.turn + 1,
                    takeovers=chain.takeovers,
                    tokens=chain.tokens,
                    error=error,
                )
            )
        if error is None:
            ballot = _ballot(index, chain, self._answer(chain, ending))
            await self._box.cast(ballot)
            if ballot.answer is not None:
                self._show_vote(index)
        self._stop_if_settled()

    async def _account(self) -> None:
        """Say what the cancelled candidates' requests had cost: themselves they cannot any more."""
        if self._cut:
            run = self._run
            by_draft = {cut.name: cut.received["draft"] for cut in self._cut}
            by_target = {cut.name: cut.received["target"] for cut in self._cut}
            costs = await asyncio.gather(run.draft.abort(by_draft), run.target.abort(by_target))
            run.emit(events.Aborted(run.at, *costs))

    def _show_vote(self, index: int) -> None:
        """Say how the vote stands now that the candidate's answer counts."""
        votes = count(self._ballots(), self._run.method.aggregation)
        standings = (
            events.Standing(vote.answer, vote.candidates, vote.weight, vote.speaker)
            for vote in votes
        )
        self._run.emit(events.Voted(self._run.at, index, tuple(standings)))

    def _answer(self, chain: Chain, ending: events.Ending) -> str | None:
        """The box's content; of a multiple choice that ended without one, the letter it states."""
        if chain.answer is None and ending == "eos" and self._comparer.how == "choice":
            return choices.stated(chain.text)
        return chain.answer

    def _ballots(self) -> list[Ballot]:
        """What was cast, with the weights that the policy gives the votes by now."""
        return self._box.weighed(lambda index: self._candidates[index].weight)

    def _torsos(self) -> list[Ballot]:
        """What there is where the time was up before any chain's end: chains without an answer.

        A box in a torso may stand in a segment that was rejected.
        """
        return [_ballot(index, chain, None) for index, chain in self._chains.items()]

    def _start_needed(self) -> None:
        """Let as many candidates run as the method wants: all, or what may settle the answer."""
        method, still_open = self._run.method, len(self._open())
        waiting = [one for one in self._may_start if not one.is_set()]
        wanted = still_open
        if method.start == "needed" and not self._policy.together:
            wanted = stopping.needed(self._ballots(), still_open, method, self._policy.heaviest)
        for one in waiting[: max(0, wanted - (still_open - len(waiting)))]:
            one.set()

    def _stop_if_settled(self) -> None:
        """Cancel the open candidates as soon as the method says that they need not go on.

        Where they must, others may have to start.
        """
        still_open = len(self._open())
        if not still_open:
            return
        heaviest = self._policy.heaviest
        why = stopping.stopped(self._ballots(), still_open, self._run.method, heaviest)
        if why is not None:
            self._stop(why)
        else:
            self._start_needed()

    @contextmanager
    def _deadline(self) -> Iterator[None]:
        """Stop all that is open when the question's time, counted from its start, is up."""
        limit = self._run.method.deadline_ms
        if limit is None:
            yield
            return
        loop = asyncio.get_running_loop()
        alarm = loop.call_later(_left(self._run, limit), self._stop, "deadline")
        try:
            yield
        finally:
            alarm.cancel()

    def _stop(self, why: Stopped) -> None:
        """Chains that have ended still vote: only a deadline cuts the comparing of an answer."""
        if self._stopped == "all":
            self._stopped = why
        for task in self._open():
            if why == "deadline" or not self._box.casting(task):
                task.cancel()

    def _open(self) -> list[asyncio.Task[None]]:
        return [t for t in self._tasks if not t.done() and t is not asyncio.current_task()]


def _ballot(index: int, chain: Chain, answer: str | None) -> Ballot:
    return Ballot(index, answer, chain.text, chain.nll, chain.handed_over)
