"""One candidate: draft, verify, take over, until the chain's end; by itself it waits for no other.

Source: arXiv 2509.15148, section 3. A turn is three stages. The draft writes a segment; the target
scores it in one prefill, looking at no other candidate; the gate accepts it, or the target takes
over right after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Literal, TypeAlias, TypeVar

from atts_core import events
from atts_core.acceptance import Decision, Gate
from atts_core.allowance import Allowance
from atts_core.answers import boxed
from atts_core.chain import Chain, Reading
from atts_core.comparison import Mathematics
from atts_core.engine import Engine, Generate, Rate, Sampling, owned, result
from atts_core.randomness import Purpose, coin, sampling_seed
from atts_core.scoring import score_of
from atts_core.settings import Method
from atts_core.types import Finish, Score, Scored, Segment

T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """What all candidates of one question share."""

    id: str
    method: Method
    seed: int
    draft: Engine
    target: Engine
    gate: Gate
    slots: asyncio.Semaphore
    """Takeovers that may run at once, over all questions."""
    allowance: Allowance
    """Tokens the target may write for this question."""
    emit: Callable[[events.Event], None]
    mathematics: Mathematics | None = None
    """Who compares formulas; without it only equal forms are the same answer."""
    began: float = field(default_factory=monotonic)

    @property
    def at(self) -> float:
        """Seconds since the run began."""
        return monotonic() - self.began

    def chain(self, candidate: int) -> str:
        """A chain's name for engines: its requests find each other's prefix by it."""
        return f"{self.id}/{candidate}"


Model: TypeAlias = Literal["draft", "target"]


class Candidate:
    """A chain and the stages that move it on."""

    def __init__(self, run: Run, index: int, chain: Chain) -> None:
        self.run = run
        self.index = index
        self.chain = chain
        self.weight: float | None = None
        """Of its vote, where the policy weighs votes itself; 0: it has none."""
        self.received: dict[Model, int] = {"draft": 0, "target": 0}
        """Results of each engine that have reached the chain: see `Engine.abort`."""

    async def advance(self, judge: Judge) -> events.Ending:
        """The paper's loop, from the first turn to the chain's end; `judge` rejects or does not."""
        run, chain = self.run, self.chain
        for chain.turn in range(run.method.turns):
            if not self.room(1):
                return self.full()
            segment, scored = await self.draft_and_verify()
            if scored is None:
                return self.silent(segment)
            begins = len(chain.text)
            finish = segment.finish
            if not await self.rejected(judge, chain.scores[-1] if len(scored.ids) else None):
                chain.drafted(segment, scored)
            else:
                cue, replaces = "", run.method.on_rejection == "replace"
                if not replaces:
                    cue = run.method.takeover_cue
                    chain.drafted(segment, scored)
                    if chain.stopped(run.method.stop, begins):
                        return "stop"
                    chain.cued(cue)
                if not self.room(1):
                    return self.full()
                begins = len(chain.text)
                limit, stop = run.method.target_tokens, run.method.segment_stop
                finish = (await self.take_over(limit, stop, cue=cue, replaces=replaces)).finish
            ending = self.ending(begins, finish)
            if ending is not None:
                return ending
        return "turns"

    async def receive(self, model: Model, result: Awaitable[T]) -> T:
        """Await a result of an engine, and count it; every request of the chain comes through here.

        The caller tells of it in an event before it waits for anything else.
        """
        received = await result
        self.received[model] += 1
        return received

    async def draft_and_verify(self) -> tuple[Segment, Scored | None]:
        """The draft writes, the target scores; no score where the draft had nothing to say.

        What says nothing to the target alone (a `<think>` that its prompt has) is scored over no
        token, and is not decided.

        Both requests start at once: the segment goes from engine to engine, not through here.
        """
        run, chain, began = self.run, self.chain, monotonic()
        drafting = run.draft.generate(
            self.request(chain.by_draft, run.method.draft_tokens, "draft", run.method.segment_stop)
        )
        scoring = run.target.score(Rate(self.name, chain.by_target.history), drafting)
        with owned(drafting, scoring):
            segment = await self.receive("draft", drafting)
            drafted = monotonic()
            self.emit_drafted(segment, drafted - began)
            if segment.tokens == 0:
                return segment, None
            scored = await self.receive("target", scoring)
        if not len(scored.ids):
            return segment, scored
        score = score_of(scored)
        chain.scores.append(score)
        run.emit(
            events.SegmentScored(
                run.at,
                self.index,
                chain.turn,
                nll=score.nll,
                tokens=score.tokens,
                seconds=monotonic() - drafted,
                cost=scored.cost,
            )
        )
        return segment, scored

    async def draft(self, limit: int, stop: tuple[str, ...]) -> Segment:
        """The draft writes a segment that is yet to be judged, and is not appended."""
        began = monotonic()
        request = self.request(self.chain.by_draft, limit, "draft", stop)
        segment = await self.receive("draft", result(self.run.draft.generate(request)))
        self.emit_drafted(segment, monotonic() - began)
        return segment

    async def rejected(self, judge: Judge, score: Score | None) -> bool:
        """Whether the target takes over: the judge's word, while the target may still write."""
        return await judge(self, score) and not self.target_is_spent()

    def target_is_spent(self) -> bool:
        """Whether the target, though it should, may write no more; says so if it is."""
        run = self.run
        if run.allowance.spent:
            run.emit(events.TakeoverSkipped(run.at, self.index, self.chain.turn))
        return run.allowance.spent

    def decide(self, score: Score) -> Decision:
        """Accept or not, from this candidate's score and the bank alone."""
        run, chain = self.run, self.chain
        decision = run.gate.decide(
            score,
            question=run.id,
            turn=chain.turn,
            coin=coin(run.seed, self.index, chain.turn),
            rate=run.method.rate,
            coverage=run.method.coverage,
        )
        run.emit(events.Decided(run.at, self.index, chain.turn, decision))
        return decision

    async def take_over(
        self, limit: int, stop: tuple[str, ...] = (), *, cue: str = "", replaces: bool = False
    ) -> Segment:
        """The target continues the chain; where it must wait for a slot, it waits alone.

        The draft's segment and the `cue` are in the chain already; where it `replaces`, they are
        not.
        """
        run, chain, asked = self.run, self.chain, monotonic()
        with run.allowance.of(self.room(limit)) as grant:
            async with run.slots:
                began = monotonic()
                request = self.request(chain.by_target, grant.tokens, "takeover", stop)
                segment = await self.receive("target", result(run.target.generate(request)))
            grant.used = segment.tokens
        chain.taken_over(segment)
        run.emit(
            events.TakenOver(
                run.at,
                self.index,
                chain.turn,
                cue=cue,
                text=segment.text,
                tokens=segment.tokens,
                replaces=replaces,
                waited=began - asked,
                seconds=monotonic() - began,
                cost=segment.cost,
            )
        )
        return segment

    async def write(
        self, model: Model, limit: int, stop: tuple[str, ...] = (), *, top_logprobs: int = 0
    ) -> Segment:
        """One model writes a piece that stays: the caller appends it to the chain."""
        run, chain, began = self.run, self.chain, monotonic()
        drafts = model == "draft"
        engine, reading = (run.draft, chain.by_draft) if drafts else (run.target, chain.by_target)
        allowance = Allowance(None) if drafts else run.allowance
        with allowance.of(self.room(limit)) as grant:
            purpose: Purpose = "draft" if drafts else "takeover"
            request = self.request(reading, grant.tokens, purpose, stop, top_logprobs)
            segment = await self.receive(model, result(engine.generate(request)))
            grant.used = segment.tokens
        run.emit(
            events.SegmentWritten(
                run.at,
                self.index,
                chain.turn,
                model=model,
                text=segment.text,
                tokens=segment.tokens,
                finish=segment.finish,
                seconds=monotonic() - began,
                cost=segment.cost,
            )
        )
        return segment

    def ending(self, begins: int, finish: Finish) -> events.Ending | None:
        """Whether the piece of text from `begins` on ended the chain.

        A box in a rejected segment is no answer yet: the target's piece must close one.
        """
        stopped = self.chain.stopped(self.run.method.stop, begins)
        if boxed(self.chain.text, closed_after=begins) is not None:
            return "answered"
        if stopped:
            return "stop"
        return "eos" if finish == "eos" else None

    def silent(self, segment: Segment) -> events.Ending:
        """How a chain ends at which a model had nothing to write.

        Without an end of text: what room is left holds no whole character.
        """
        return "eos" if segment.finish == "eos" else self.full()

    def full(self) -> events.Ending:
        """How a chain ends that has no room left."""
        cap = self.run.method.max_tokens
        return "tokens" if cap is not None and self.chain.tokens >= cap else "context"

    def room(self, wanted: int) -> int:
        """Tokens a segment may have: what is wanted, the chain's cap and both contexts allow."""
        run, chain = self.run, self.chain
        room = min(
            wanted,
            run.draft.capabilities.max_len - chain.by_draft.tokens,
            run.target.capabilities.max_len - chain.by_target.tokens,
        )
        if run.method.max_tokens is not None:
            room = min(room, run.method.max_tokens - chain.tokens)
        return max(0, room)

    @property
    def name(self) -> str:
        return self.run.chain(self.index)

    def request(
        self,
        reading: Reading,
        limit: int,
        purpose: Purpose,
        stop: tuple[str, ...] = (),
        top_logprobs: int = 0,
    ) -> Generate:
        run, method = self.run, self.run.method
        return Generate(
            chain=self.name,
            history=reading.history,
            max_tokens=self.room(limit),
            sampling=Sampling(method.temperature, method.top_p, method.top_k),
            seed=sampling_seed(run.seed, self.index, self.chain.turn, purpose),
            stop=stop + method.stop,
            top_logprobs=top_logprobs,
        )

    def emit_drafted(self, segment: Segment, seconds: float) -> None:
        self.run.emit(
            events.SegmentDrafted(
                self.run.at,
                self.index,
                self.chain.turn,
                text=segment.text,
                tokens=segment.tokens,
                finish=segment.finish,
                seconds=seconds,
                cost=segment.cost,
            )
        )


Judge: TypeAlias = Callable[[Candidate, Score | None], Awaitable[bool]]
"""Whether the target takes over after a candidate's segment. It has no score where it said nothing
that the target could read: then it is never rejected, but a judge may want to know."""
