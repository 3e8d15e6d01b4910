"""Training documents: solutions with slips, work going on from them, and cued rework.

A document is a list of token ids and, for each, whether a model is to learn to write it. The
prompt, the cue, and everything wrong from its first wrong token to the end of the line are not
learned: without that mask, models learn to make the mistakes.

The cue asks for the line before it once more, from the state before that line. It follows whole
lines, right and wrong, and now and then a line cut in the middle (a segment that ran out of
tokens): `85 * 3 = 24Check. 85 * 3 = 240 + 15 = 255`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from models.arithmetic.problems import (
    CUE,
    LARGEST_VALUE,
    STEP_END,
    Problem,
    State,
    Step,
    draw,
    grade_line,
    is_held_out,
    parts,
    result_line,
    right_line,
    spell,
)
from models.arithmetic.tokenizer import ASSISTANT, END, USER, ids_of

KINDS = ("result", "middle", "left", "operand", "op", "other", "early")


@dataclass(frozen=True)
class Slips:
    """How often each kind of slip is drawn, as weights."""

    result: float = 5
    middle: float = 4
    left: float = 3
    operand: float = 2
    op: float = 1
    other: float = 2
    """Another instruction than the one that is due."""
    early: float = 0.3
    reach: tuple[int, int] = (1, 2)
    """How many instructions back and ahead the other one may lie."""


@dataclass(frozen=True)
class Noise:
    """How much goes wrong in the documents, as probabilities."""

    clean: float = 0.3
    """A document without slips and cues."""
    cue: tuple[float, float] = (0.1, 0.5)
    """A line is followed by the cue: drawn from this range, once a document."""
    wrong: float = 0.5
    """A line that the cue follows is wrong."""
    cut: float = 0.1
    """A line that the cue follows is cut in the middle."""
    silent: float = 0.04
    """A wrong line stays without a cue, and the work goes on from it."""
    slips: Slips = Slips()


@dataclass
class Document:
    """Token ids, and for each whether its loss counts."""

    ids: list[int] = field(default_factory=list)
    learned: list[bool] = field(default_factory=list)

    def add(self, ids: tuple[int, ...], learned: bool) -> None:
        self.ids += ids
        self.learned += [learned] * len(ids)


def documents(seed: int, steps: tuple[int, int], noise: Noise) -> Iterator[Document]:
    """Endless documents about training problems of `steps[0]` to `steps[1]` steps."""
    rng = random.Random(seed)
    while True:
        problem = draw(rng, rng.randint(*steps))
        if not is_held_out(problem.question):
            yield write(rng, problem, noise)


def write(rng: random.Random, problem: Problem, noise: Noise) -> Document:
    """One document: the problem, and a chain that ends in its result line or when it derails."""
    document = Document()
    document.add(ids_of(f"{USER}{problem.question}{ASSISTANT}"), learned=False)
    clean = rng.random() < noise.clean
    cue = 0.0 if clean else rng.uniform(*noise.cue)
    silent = 0.0 if clean else noise.silent
    state = State(problem.start)
    while not state.finished and _goes_on(problem, state):
        right = right_line(problem, state)
        if rng.random() < cue:
            _write_cued(rng, document, problem, state, noise)
        elif rng.random() < silent:
            wrong = wrong_line(rng, problem, state, noise.slips)
            _add_checked(document, _ended(wrong), _ended(right))
            _, state = grade_line(problem, state, wrong)
            continue
        _add_checked(document, _ended(right), _ended(right))
        _, state = grade_line(problem, state, right)
    return document


def _write_cued(
    rng: random.Random, document: Document, problem: Problem, state: State, noise: Noise
) -> None:
    """A line, right or wrong, whole or cut, and the cue; the rework is left to the caller."""
    right = right_line(problem, state)
    wrong = rng.random() < noise.wrong
    line = wrong_line(rng, problem, state, noise.slips) if wrong else right
    unended = rng.random() >= 0.5 and line.startswith("The")
    written = ids_of(line) if unended else _ended(line)
    if rng.random() < noise.cut:
        written = written[: rng.randint(1, len(written) - 1)]
    _add_checked(document, written, _ended(right))
    document.add(ids_of(CUE), learned=False)


def _ended(line: str) -> tuple[int, ...]:
    """A line's ids with its end: the end token behind the result, else a blank line."""
    return ids_of(line + (END if line.startswith("The") else STEP_END))


def _add_checked(document: Document, ids: tuple[int, ...], right: tuple[int, ...]) -> None:
    """Add a line; what follows its first difference from the right line is not learned."""
    same = 0
    while same < min(len(ids), len(right)) and ids[same] == right[same]:
        same += 1
    document.add(ids[:same], learned=True)
    document.add(ids[same:], learned=False)


def _goes_on(problem: Problem, state: State) -> bool:
    """Whether a chain that went wrong is still within the problem's bounds."""
    if state.done == len(problem.steps):
        return True
    return problem.steps[state.done].allowed(state.value)


def wrong_line(rng: random.Random, problem: Problem, state: State, slips: Slips = Slips()) -> str:
    """A line that a weak solver might write from `state`, and that is not the right one."""
    right = right_line(problem, state)
    while True:
        line = _slip(rng, problem, state, slips)
        if line is not None and line != right:
            return line


def _slip(rng: random.Random, problem: Problem, state: State, slips: Slips) -> str | None:
    """One kind of slip, the rest of the line consistent with it; None where it does not fit."""
    value, done = state.value, state.done
    if done == len(problem.steps):
        if rng.random() < 0.8:
            return result_line(_misread(rng, value))
        return _worked(value, problem.steps[-1])
    step = problem.steps[done]
    kind = rng.choices(KINDS, [getattr(slips, kind) for kind in KINDS])[0]
    if kind == "early":
        return result_line(value) if done else None
    if kind == "left":
        return _worked(_misread(rng, value), step)
    if kind == "operand":
        return _worked(value, Step(step.op, _misread(rng, step.operand)))
    if kind == "op":
        return _worked(value, Step(rng.choice(("+", "-", "*")), step.operand))
    if kind == "other":
        back, ahead = slips.reach
        near = problem.steps[max(0, done - back) : done] + problem.steps[done + 1 :][:ahead]
        return _worked(value, rng.choice(near)) if near else None
    middle = parts(value, step)
    if kind == "result" or middle is None:
        return _within(spell(value, step, middle, wrong := _misread(rng, step.apply(value))), wrong)
    first, op, second = middle
    if step.op == "*" and rng.random() < 0.5:
        second = _misread(rng, second)
    else:
        first = _misread(rng, first)
    result = Step(op, second).apply(first)
    return _within(spell(value, step, (first, op, second), result), result)


def _worked(value: int, step: Step) -> str | None:
    """The consistent line, where it stays within bounds."""
    if not step.allowed(value):
        return None
    return spell(value, step, parts(value, step), step.apply(value))


def _within(line: str, result: int) -> str | None:
    return line if 0 <= result <= LARGEST_VALUE else None


def _misread(rng: random.Random, number: int) -> int:
    """A number as it comes out of a slip: a wrong digit, a lost carry, a neighbour."""
    if rng.random() < 0.5:
        return max(0, number + rng.choice((-100, -10, -10, -2, -1, -1, 1, 1, 2, 10, 10, 100)))
    digits = list(str(number))
    at = rng.randrange(len(digits))
    digits[at] = rng.choice("0123456789")
    if rng.random() < 0.1:
        rng.shuffle(digits)
    return int("".join(digits))
