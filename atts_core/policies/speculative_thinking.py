"""`speculative-thinking`: the target writes where the draft's next words doubt, check, conclude.

Source: Yang et al., "Speculative Thinking: Enhancing Small-Model Reasoning with Large Model
Guidance at Inference Time", arXiv 2504.12329, and its published code with the settings of its
pair of 1.5B and 32B. The draft writes a paragraph, to a blank line, and then peeks 20 tokens ahead.
Where the peek has none of the words below it is discarded and the draft writes on from the blank
line. Else the target writes 20 tokens in its place; where these doubt, a doubt is counted, and
where they check, the target writes 125 more. After 15 doubts, at the next blank line, the target is
told to look for wrong steps and writes 125 tokens; the count begins anew, and each time the target
gets 25 tokens more (up to 200) after 5 more doubts (up to 30).

Deviations: the sentence that the target is told is ours. Chains end as all chains do here, by a
complete box or the end of text. While the target may write no more, the draft goes on alone.
"""

from __future__ import annotations

from time import monotonic

from atts_core import events
from atts_core.candidate import Candidate
from atts_core.engine import result
from atts_core.events import Ending
from atts_core.policies.policy import Policy, each

BLANK = ("\n\n",)
PARAGRAPH = 1024
PEEK = 20
"""Tokens of a peek, and of what the target writes in its place."""

DOUBT = ("wait", "alternatively", "hold on", "another")
CHECK = ("verify", "think again", "recap", "check")
CONCLUSION = ("yeah", "yes", "final answer", "confident")

CHECKING = 125
MORE_CHECKING, MOST_CHECKING = 25, 200
PATIENCE = 15
MORE_PATIENCE, MOST_PATIENCE = 5, 30
"""Doubts until the target is told to look back."""
LOOK_BACK = "Let me look for wrong steps in what I have so far: "


def mood(text: str) -> int:
    """1 where words of conclusion outnumber those of doubt and checking, 0 where there are none.

    Else -1: in doubt, doubt.
    """
    low = text.lower()
    concluding = sum(low.count(word) for word in CONCLUSION)
    doubting = sum(low.count(word) for word in (*DOUBT, *CHECK))
    if concluding > doubting:
        return 1
    return -1 if doubting else 0


def checks(text: str) -> bool:
    return any(word in text.lower() for word in CHECK)


async def solve(candidate: Candidate) -> Ending:
    return await _Thinking(candidate).to_the_end()


class _Thinking:
    """One chain, with its doubts so far."""

    def __init__(self, candidate: Candidate) -> None:
        self._candidate = candidate
        self._doubts = 0
        self._patience = PATIENCE
        self._checking = CHECKING

    async def to_the_end(self) -> Ending:
        candidate, chain = self._candidate, self._candidate.chain
        while self._room(PARAGRAPH):
            begins = len(chain.text)
            paragraph = await candidate.write("draft", self._room(PARAGRAPH), BLANK)
            if not paragraph.tokens:
                return candidate.silent(paragraph)
            chain.accepted(paragraph)
            ending = candidate.ending(begins, paragraph.finish)
            if ending is None and paragraph.finish == "stop":
                ending = await self._after_a_paragraph()
            if ending is not None:
                return ending
            chain.turn += 1
        return "tokens" if self._spent else candidate.full()

    async def _after_a_paragraph(self) -> Ending | None:
        if self._candidate.run.allowance.spent:
            return None
        if self._doubts >= self._patience:
            return await self._look_back()
        if not mood(await self._peek()):
            return None
        text, ending = await self._target(PEEK)
        if ending is not None:
            return ending
        self._doubts += mood(text) < 0
        if checks(text):
            self._candidate.chain.turn += 1
            _, ending = await self._target(CHECKING)
        return ending

    async def _look_back(self) -> Ending | None:
        """The target is told to look for wrong steps; next time, later and at more length."""
        self._candidate.chain.cued(LOOK_BACK)
        _, ending = await self._target(self._checking, LOOK_BACK)
        self._doubts = 0
        self._checking = min(self._checking + MORE_CHECKING, MOST_CHECKING)
        self._patience = min(self._patience + MORE_PATIENCE, MOST_PATIENCE)
        return ending

    async def _target(self, limit: int, cue: str = "") -> tuple[str, Ending | None]:
        """The target writes on, if there is room and it may: its text, and how the chain ended."""
        candidate, chain = self._candidate, self._candidate.chain
        if not self._room(limit) or candidate.target_is_spent():
            return "", None
        begins = len(chain.text)
        segment = await candidate.take_over(self._room(limit), cue=cue)
        return segment.text, candidate.ending(begins, segment.finish)

    async def _peek(self) -> str:
        """What the draft would write next; it is no part of the chain."""
        candidate, run, began = self._candidate, self._candidate.run, monotonic()
        room = self._room(PEEK)
        if not room:
            return ""
        request = candidate.request(candidate.chain.by_draft, room, "peek")
        segment = await candidate.receive("draft", result(run.draft.generate(request)))
        run.emit(
            events.Peeked(
                run.at,
                candidate.index,
                candidate.chain.turn,
                text=segment.text,
                tokens=segment.tokens,
                seconds=monotonic() - began,
                cost=segment.cost,
            )
        )
        return segment.text

    def _room(self, wanted: int) -> int:
        left = self._candidate.run.method.chain_tokens - self._candidate.chain.tokens
        return self._candidate.room(min(wanted, left))

    @property
    def _spent(self) -> bool:
        return self._candidate.chain.tokens >= self._candidate.run.method.chain_tokens


SPECULATIVE_THINKING = Policy("speculative-thinking", each(solve))
