"""What the pair writes on problems: alone, behind the cue, and together."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import LlamaForCausalLM

from models.arithmetic import sampling
from models.arithmetic.figures import Share
from models.arithmetic.problems import CUE, STEP_END, Grade, Problem, final_answer, grade
from models.arithmetic.tokenizer import ASSISTANT, END_ID, IDS, USER, build, ids_of

STEP_IDS = (IDS[STEP_END], END_ID)
"""A segment is one line: it ends with a blank line, or with the chain."""
LONGEST_CHAIN = 400
LONGEST_LINE = 32
_CUE_IDS = list(ids_of(CUE))
_DECODER = build()


def prompt(problem: Problem) -> list[int]:
    return list(ids_of(f"{USER}{problem.question}{ASSISTANT}"))


def text_of(ids: Sequence[int]) -> str:
    return str(_DECODER.decode(list(ids), skip_special_tokens=True))


def solved(problems: Sequence[Problem], chains: Sequence[list[int]]) -> Share:
    """How many chains end in the right result."""
    answers = [final_answer(text_of(ids)) for ids in chains]
    right = sum(a == problem.answer for a, problem in zip(answers, problems, strict=True))
    return Share(right, len(problems))


def right_lines(problems: Sequence[Problem], chains: Sequence[list[int]]) -> Share:
    """How many lines are right, each judged from where its chain stands."""
    pairs = zip(problems, chains, strict=True)
    verdicts = [each.right for problem, ids in pairs for each in grade(problem, text_of(ids))]
    return Share(sum(verdicts), len(verdicts))


def segments(ids: Sequence[int]) -> list[list[int]]:
    """A chain cut behind every blank line."""
    cut: list[list[int]] = [[]]
    for token in ids:
        cut[-1].append(token)
        if token in STEP_IDS:
            cut.append([])
    return [segment for segment in cut if segment]


@dataclass(frozen=True)
class Writer:
    """A model at a temperature, as it writes chains."""

    model: LlamaForCausalLM
    temperature: float

    def solve(self, problems: Sequence[Problem], seed: int) -> list[list[int]]:
        """One whole chain a problem, by this model alone."""
        return self._write([prompt(problem) for problem in problems], (END_ID,), seed)

    def next_lines(self, prefixes: Sequence[list[int]], seed: int) -> list[list[int]]:
        """One line after each prefix."""
        return self._write(prefixes, STEP_IDS, seed)

    def _write(
        self, prefixes: Sequence[list[int]], ends: tuple[int, ...], seed: int
    ) -> list[list[int]]:
        most = LONGEST_CHAIN if ends == (END_ID,) else LONGEST_LINE
        return sampling.sample(
            self.model, prefixes, most=most, temperature=self.temperature, seed=seed, ends=ends
        )

    def mean_nll(self, prefixes: Sequence[list[int]], written: Sequence[list[int]]) -> list[float]:
        """Mean nats a token of each segment behind its prefix."""
        whole = [prefix + ids for prefix, ids in zip(prefixes, written, strict=True)]
        nats = sampling.token_nll(self.model, whole)
        return [sum(each[-len(ids) :]) / len(ids) for each, ids in zip(nats, written, strict=True)]


@dataclass(frozen=True)
class Scored:
    """A draft's chain: its segments, their verdicts, and their mean nll under the target."""

    problem: Problem
    segments: list[list[int]]
    grades: list[Grade]
    nll: list[float]


def score(target: Writer, problems: Sequence[Problem], chains: Sequence[list[int]]) -> list[Scored]:
    """The draft's chains under the target, one forward pass a chain."""
    heads = [prompt(problem) for problem in problems]
    whole = [head + ids for head, ids in zip(heads, chains, strict=True)]
    found = []
    for problem, ids, nats in zip(
        problems, chains, sampling.token_nll(target.model, whole), strict=True
    ):
        cut = segments(ids)
        at, means = len(nats) - len(ids), []
        for segment in cut:
            means.append(sum(nats[at : at + len(segment)]) / len(segment))
            at += len(segment)
        grades = grade(problem, text_of(ids))
        if len(grades) == len(cut):
            found.append(Scored(problem, cut, grades, means))
    return found


def rework(
    target: Writer, chains: Sequence[Scored], seed: int, *, right: bool, cut: bool = False
) -> tuple[Share, Share]:
    """After a draft's segment and the cue: the reworked line is right; the next one is too.

    The segment is a chain's first wrong one, or a random one before that; `cut` ends it early,
    as a segment ends that has used up its tokens.
    """
    rng = random.Random(seed)
    problems: list[Problem] = []
    cued: list[list[int]] = []
    for chain in chains:
        verdicts = [each.right for each in chain.grades]
        first = verdicts.index(False) if False in verdicts else len(verdicts)
        if first == (0 if right else len(verdicts)):
            continue
        last = rng.randrange(first) if right else first
        segment = chain.segments[last]
        if cut:
            segment = segment[: rng.randint(1, len(segment) - 1)]
        before = [token for each in chain.segments[:last] for token in each]
        problems.append(chain.problem)
        cued.append(before + segment + _CUE_IDS)
    prefixes = [prompt(problem) + ids for problem, ids in zip(problems, cued, strict=True)]
    lines = target.next_lines(prefixes, seed)
    longer = [prefix + line for prefix, line in zip(prefixes, lines, strict=True)]
    once = twice = 0
    for problem, ids, line, after in zip(
        problems, cued, lines, target.next_lines(longer, seed + 1), strict=True
    ):
        reworked = grade(problem, text_of(ids + line))[-1]
        following = grade(problem, text_of(ids + line + after))[-1]
        once += reworked.right
        twice += reworked.right and (reworked.after.finished or following.right)
    return Share(once, len(problems)), Share(twice, len(problems))


@dataclass(frozen=True)
class Together:
    """What draft and target reach together, and how much of it the target wrote."""

    solved: Share
    taken_over: Share
    target_tokens: Share


def together(
    draft: Writer,
    target: Writer,
    problems: Sequence[Problem],
    *,
    threshold: float | None,
    rate: float,
    seed: int,
    turns: int = 16,
) -> Together:
    """A line a turn by the draft; where its nll is above the threshold, one by the target.

    Without a threshold a coin of probability `rate` decides.
    """
    rng = random.Random(seed)
    chains: list[list[int]] = [[] for _ in problems]
    going = list(range(len(problems)))
    decided = taken = by_target = 0

    def prefixes(rows: Sequence[int]) -> list[list[int]]:
        return [prompt(problems[row]) + chains[row] for row in rows]

    for turn in range(turns):
        lines = draft.next_lines(prefixes(going), seed + 2 * turn)
        scores = target.mean_nll(prefixes(going), lines)
        rejected = []
        for row, line, nll in zip(going, lines, scores, strict=True):
            chains[row] += line
            if rng.random() < rate if threshold is None else nll > threshold:
                chains[row] += _CUE_IDS
                rejected.append(row)
        decided, taken = decided + len(going), taken + len(rejected)
        if rejected:
            reworked = target.next_lines(prefixes(rejected), seed + 2 * turn + 1)
            for row, line in zip(rejected, reworked, strict=True):
                chains[row] += line
                by_target += len(line)
        going = [row for row in going if final_answer(text_of(chains[row])) is None]
        if not going:
            break
    return Together(
        solved(problems, chains),
        Share(taken, decided),
        Share(by_target, sum(map(len, chains))),
    )
