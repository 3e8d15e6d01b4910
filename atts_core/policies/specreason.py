"""`specreason`: the draft writes one step, the target grades it in words, a poor one is discarded.

Source: Pan et al., "SpecReason: Fast and Accurate Inference-Time Compute via Speculative
Reasoning", arXiv 2504.07891, and its published code. A step ends at a blank line and has 512 tokens
at most. The target gives it a digit from 0 to 9, greedily, as one token; what is no number counts
as 0. From 7 on the step is accepted, else it is gone and the target writes it. A chain that repeats
a step is given up, from its third step on.

Deviations: the target is asked in one message of the user's, question, reasoning and request in
this order, so that any chat template renders it, or the plain form where there is none, and one
grading finds the text of the last in the cache; published is a conversation whose assistant turn is
the reasoning, and other words. A `</think>` before the answer stays. Chains run in parallel, and
end as all chains do here, by a complete box or the end of text. While the target may write no more,
every step is accepted.

Whether a target can judge at all is tried once, on a right and on a wrong step.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import monotonic
from weakref import WeakKeyDictionary

from atts_core import events
from atts_core.candidate import Candidate, Run
from atts_core.engine import Engine, Generate, Sampling, result
from atts_core.errors import BadInput, ContextFull, PromptTooLong
from atts_core.events import Ending
from atts_core.policies.policy import Policy, Solve
from atts_core.types import History, Message, Question, Segment

STEP = 512
BLANK = ("\n\n",)
GOOD = 7
REPEATS_FROM = 3
"""Steps a chain has when it is first looked at for repetition."""

_REQUEST = (
    "Grade the last step of this reasoning, and nothing else: is it correct, and does it follow "
    "from what stands before it? Style and usefulness do not count. Answer with one digit from 0, "
    "wrong, to 9, right."
)
_OPENING = "The grade of the last step is: "


@dataclass(frozen=True)
class Grade:
    """One grading: what the target said, as the segment it wrote."""

    segment: Segment

    @property
    def value(self) -> int | None:
        """The number that was said; None where none was."""
        said = self.segment.text.strip()
        return int(said) if re.fullmatch("[0-9]{1,2}", said) else None


async def grade(
    target: Engine, messages: Sequence[Message], reasoning: str, *, chain: str, seed: int
) -> Grade:
    """The target's grade of the last step of `reasoning`; raises PromptTooLong."""
    asked = f"{messages[-1].content}\n\nReasoning so far:\n\n{reasoning.rstrip()}\n\n{_REQUEST}"
    prompt = await target.render([*messages[:-1], replace(messages[-1], content=asked)])
    history = History(prompt, _OPENING)
    request = Generate(chain, history, max_tokens=1, sampling=Sampling(0.0), seed=seed)
    return Grade(await result(target.generate(request)))


# ------------------------------------------------------------------------------ can it judge?

_PROBLEM = (Message("user", "What is 12 + 30, and the double of that?"),)
_RIGHT = "12 + 30 = 42."
_WRONG = "12 + 30 = 71."
_lacking: WeakKeyDictionary[Engine, str | None] = WeakKeyDictionary()


async def lacks(draft: Engine, target: Engine) -> str | None:
    """What keeps the target from judging; tried once an engine."""
    if target not in _lacking:
        _lacking[target] = await _tried(target)
    return _lacking[target]


async def _tried(target: Engine) -> str | None:
    who = target.capabilities.model
    needed = (
        "it needs a target that follows a request to grade a step with one digit (a chat model)"
    )
    try:
        right, wrong = [
            await grade(target, _PROBLEM, step, chain="grading", seed=0)
            for step in (_RIGHT, _WRONG)
        ]
    except BadInput as error:
        return f"{needed}, and {who} cannot read the request: {error.message}"
    if right.value is None or wrong.value is None or right.value <= wrong.value:
        return (
            f"{needed}; asked for the grade of a right step, {who} says {right.segment.text!r}, "
            f"and of a wrong one {wrong.segment.text!r}"
        )
    return None


# ------------------------------------------------------------------------------ the policy


def begin(run: Run, question: Question) -> Solve:
    async def solve(candidate: Candidate) -> Ending:
        return await _Steps(candidate, question).to_the_end()

    return solve


class _Steps:
    """One chain, step by step."""

    def __init__(self, candidate: Candidate, question: Question) -> None:
        self._candidate = candidate
        self._question = question
        self._steps: list[str] = []

    async def to_the_end(self) -> Ending:
        candidate, chain = self._candidate, self._candidate.chain
        cap = candidate.run.method.chain_tokens
        while candidate.room(limit := min(STEP, cap - chain.tokens)):
            begins = len(chain.text)
            segment = await candidate.draft(limit, BLANK)
            if not segment.tokens:
                return candidate.silent(segment)
            if await self._accepted(segment):
                chain.accepted(segment)
            else:
                segment = await candidate.take_over(limit, BLANK, replaces=True)
            ending = candidate.ending(begins, segment.finish)
            if ending is not None:
                return ending
            self._steps.append(segment.text)
            if len(self._steps) >= REPEATS_FROM and self._steps[-1] == self._steps[-2]:
                return "stopped"
            chain.turn += 1
        return "tokens" if chain.tokens >= cap else candidate.full()

    async def _accepted(self, segment: Segment) -> bool:
        """Whether the target finds the step good; so it is while the target may not say more."""
        candidate, run, began = self._candidate, self._candidate.run, monotonic()
        if candidate.target_is_spent():
            return True
        text = candidate.chain.text + segment.text
        with run.allowance.of(1) as grant:
            try:
                grading = grade(
                    run.target,
                    self._question.messages,
                    text,
                    chain=candidate.name,
                    seed=run.seed,
                )
                given = await candidate.receive("target", grading)
            except PromptTooLong as error:
                raise ContextFull(f"{candidate.name}: {error.message}") from None
            grant.used = given.segment.tokens
        value = given.value or 0
        run.emit(
            events.StepJudged(
                run.at,
                candidate.index,
                candidate.chain.turn,
                said=given.segment.text,
                grade=value,
                accepted=value >= GOOD,
                tokens=given.segment.tokens,
                seconds=monotonic() - began,
                cost=given.segment.cost,
            )
        )
        return value >= GOOD or candidate.target_is_spent()


SPECREASON = Policy("specreason", begin, lacks=lacks)
