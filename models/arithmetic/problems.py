"""Problems, their worked solutions, and the checker. Pure Python: benchmarks import it.

A problem starts with a number and applies instructions to it; the value never leaves 0..999,
and no instruction occurs twice in a problem, so that the instruction just worked says which one
is next. A stable hash of the question's text decides whether a problem may be trained on.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Op = Literal["+", "-", "*"]

LARGEST_VALUE = 999
LARGEST_FACTOR = 99
"""Only values up to this one are multiplied."""
HELD_OUT_SHARE = 8
"""One question in this many is held out of training."""
STEP_END = "\n\n"
CUE = "Check. "
"""What stands between a rejected segment and the reworked step (the setting `takeover_cue`)."""

_WORDS: dict[Op, str] = {"+": "Add", "-": "Subtract", "*": "Multiply by"}
_OPS: dict[str, Op] = {word: op for op, word in _WORDS.items()}
_QUESTION = re.compile(
    r"Start with (\d+)\. ((?:(?:Add|Subtract|Multiply by) \d+\. )+)What is the result\?"
)
_INSTRUCTION = re.compile(r"(Add|Subtract|Multiply by) (\d+)\. ")
_LINE = re.compile(r"(\d+) ([-+*]) (\d+) = (?:(\d+) ([-+]) (\d+) = )?(\d+)")
_RESULT = re.compile(r"The result is \\boxed\{(\d+)\}\.")


@dataclass(frozen=True)
class Step:
    """One instruction: an operator and its right operand."""

    op: Op
    operand: int

    @property
    def words(self) -> str:
        return f"{_WORDS[self.op]} {self.operand}."

    def apply(self, value: int) -> int:
        if self.op == "+":
            return value + self.operand
        return value - self.operand if self.op == "-" else value * self.operand

    def allowed(self, value: int) -> bool:
        """Whether the problem's bounds hold when the step is applied to `value`."""
        if self.op == "*" and value > LARGEST_FACTOR:
            return False
        return 0 <= self.apply(value) <= LARGEST_VALUE


@dataclass(frozen=True)
class Problem:
    """A start value and its instructions; everything else follows from them."""

    start: int
    steps: tuple[Step, ...]

    @property
    def question(self) -> str:
        instructions = " ".join(step.words for step in self.steps)
        return f"Start with {self.start}. {instructions} What is the result?"

    @property
    def values(self) -> tuple[int, ...]:
        """The value before each step, and the result as the last entry."""
        values = [self.start]
        for step in self.steps:
            values.append(step.apply(values[-1]))
        return tuple(values)

    @property
    def answer(self) -> str:
        return str(self.values[-1])

    @property
    def lines(self) -> tuple[str, ...]:
        """The solution, a line a step and the result line, without the blank lines between."""
        values = self.values
        worked = [work(value, step) for value, step in zip(values, self.steps, strict=False)]
        return (*worked, result_line(values[-1]))

    @property
    def solution(self) -> str:
        return STEP_END.join(self.lines)


def parts(value: int, step: Step) -> tuple[int, Op, int] | None:
    """The middle of a worked line: tens first, then ones. None where there is only one part."""
    if step.op == "*":
        tens, ones = value - value % 10, value % 10
        return (tens * step.operand, "+", ones * step.operand) if tens and ones else None
    tens, ones = step.operand - step.operand % 10, step.operand % 10
    return (Step(step.op, tens).apply(value), step.op, ones) if tens and ones else None


def work(value: int, step: Step) -> str:
    """One worked line, e.g. `47 + 38 = 77 + 8 = 85`."""
    return spell(value, step, parts(value, step), step.apply(value))


def spell(value: int, step: Step, middle: tuple[int, Op, int] | None, result: int) -> str:
    """A worked line out of its numbers, right or wrong."""
    between = f"{middle[0]} {middle[1]} {middle[2]} = " if middle else ""
    return f"{value} {step.op} {step.operand} = {between}{result}"


def result_line(value: int) -> str:
    return f"The result is \\boxed{{{value}}}."


def is_held_out(question: str) -> bool:
    """Whether training must never see this question."""
    digest = hashlib.sha256(question.encode()).digest()
    return int.from_bytes(digest[:8], "big") % HELD_OUT_SHARE == 0


def training(seed: int, steps: tuple[int, int] = (1, 12)) -> Iterator[Problem]:
    """Endless training problems with `steps[0]` to `steps[1]` steps; none is held out."""
    rng = random.Random(seed)
    while True:
        problem = draw(rng, rng.randint(*steps))
        if not is_held_out(problem.question):
            yield problem


def held_out(n: int, seed: int, steps: tuple[int, int] = (8, 12)) -> list[Problem]:
    """`n` different problems that training never sees, the same ones for the same arguments."""
    rng = random.Random(seed)
    found: dict[str, Problem] = {}
    while len(found) < n:
        problem = draw(rng, rng.randint(*steps))
        if is_held_out(problem.question):
            found.setdefault(problem.question, problem)
    return list(found.values())


def draw(rng: random.Random, count: int) -> Problem:
    """A random problem of `count` steps; high values tend to come down again."""
    start = value = rng.randint(10, 99)
    steps: list[Step] = []
    while len(steps) < count:
        step = _draw_step(rng, value)
        if step.allowed(value) and step not in steps:
            steps.append(step)
            value = step.apply(value)
    return Problem(start, tuple(steps))


def _draw_step(rng: random.Random, value: int) -> Step:
    chance = rng.random()
    if value <= LARGEST_FACTOR:
        if chance < 0.4:
            return Step("*", rng.randint(2, 9))
        return Step("+" if chance < 0.7 else "-", rng.randint(2, 99))
    return Step("+" if chance < 0.25 else "-", rng.randint(2, 99))


def parse(question: str) -> Problem:
    """The problem a question's text states; ValueError where it is not one of ours."""
    match = _QUESTION.fullmatch(question.strip())
    if match is None:
        raise ValueError("not an arithmetic chain: expected 'Start with 47. Add 38. ... '")
    found = _INSTRUCTION.findall(match[2])
    return Problem(int(match[1]), tuple(Step(_OPS[word], int(b)) for word, b in found))


@dataclass(frozen=True)
class State:
    """Where a chain stands: its value, and how many instructions it has worked."""

    value: int
    done: int = 0
    finished: bool = False


@dataclass(frozen=True)
class Grade:
    """A line's verdict, the state before it, and the state it leaves behind."""

    line: str
    right: bool
    reworked: bool
    before: State
    after: State


def right_line(problem: Problem, state: State) -> str:
    """What a right chain writes next from `state`."""
    if state.done < len(problem.steps):
        return work(state.value, problem.steps[state.done])
    return result_line(state.value)


def grade_line(problem: Problem, state: State, line: str) -> tuple[bool, State]:
    """Whether `line` (no blank line, no cue) is right from `state`, and the state after it.

    Right means: this state's value as left operand, the instruction that is next, and every
    number of the equation right. After a wrong line the work goes on from what it wrote: from
    its result, and from the instruction it worked where the problem has that instruction.
    """
    right = line == right_line(problem, state)
    result = _RESULT.fullmatch(line)
    if result is not None:
        return right, State(int(result[1]), state.done, finished=True)
    match = _LINE.fullmatch(line)
    if match is None:
        return False, State(state.value, state.done)
    op: Op = "+" if match[2] == "+" else "-" if match[2] == "-" else "*"
    step = Step(op, int(match[3]))
    done = problem.steps.index(step) + 1 if step in problem.steps else state.done + 1
    return right, State(int(match[7]), min(done, len(problem.steps)))


def grade(problem: Problem, text: str, cue: str = CUE) -> list[Grade]:
    """Every line of a chain's text with its verdict.

    A line after the cue works the line before it again: it is judged from the state before that
    line. The last line may be unfinished; it is then wrong, so cut it off first if that matters.
    """
    grades: list[Grade] = []
    state = State(problem.start)
    before = state
    for line, reworked in _lines(text, cue):
        if reworked:
            state = before
        before = state
        right, state = grade_line(problem, before, line)
        grades.append(Grade(line, right, reworked, before, state))
    return grades


def _lines(text: str, cue: str) -> Iterator[tuple[str, bool]]:
    """Lines of a chain, each with whether the cue stands before it."""
    for block in text.split(STEP_END):
        pieces: Sequence[str] = block.split(cue) if cue else [block]
        for index, piece in enumerate(pieces):
            if piece:
                yield piece, index > 0


def final_answer(text: str) -> str | None:
    """The number in the last complete box, or None."""
    found = _RESULT.findall(text)
    return found[-1] if found else None
