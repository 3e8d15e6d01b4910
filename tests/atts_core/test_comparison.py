"""Sameness is an equivalence where it is promised; classes keep what was decided."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atts_core import scaling
from atts_core.candidate import Run
from atts_core.comparison import Classes, Comparer, Mathematics, mathematical
from atts_core.engine import Generate, Line
from atts_core.types import Comparison, Message, Question
from tests.conftest import QUESTION, Recorder

EXACT: tuple[Comparison, ...] = ("text", "number", "choice")
PIECES = [
    "1",
    "2",
    "12",
    "12.0",
    "1/2",
    "0.5",
    "50%",
    "50",
    "12 cm",
    "(B)",
    "B",
    "b.",
    "x=5",
    "5",
    "",
]
ANSWERS = st.one_of(
    st.sampled_from([*PIECES, r"\frac{1}{2}", r"\text{B}", "No", "no ", "ﬁn", "fin", "Ⅳ"]),
    st.text(alphabet="\\{}()/.,%$+-^_ 01aBx½", max_size=8),
    st.text(max_size=5),
)


class Told:
    """Mathematics that knows some pairs, and does not answer others; it counts what it is asked."""

    def __init__(
        self, same: set[frozenset[str]], silent: set[frozenset[str]] | None = None
    ) -> None:
        self._same = same
        self._silent = silent or set()
        self.asked: list[tuple[str, str]] = []

    async def same(self, one: str, other: str) -> bool | None:
        self.asked.append((one, other))
        await asyncio.sleep(0)
        pair = frozenset((one, other))
        return None if pair in self._silent else pair in self._same


def pairs(*of: tuple[str, str]) -> set[frozenset[str]]:
    return {frozenset(pair) for pair in of}


async def sorted_in(comparer: Comparer, answers: list[str]) -> list[int]:
    classes = Classes(comparer)
    return [await classes.of(answer) for answer in answers]


def partition(answers: list[str], numbers: list[int]) -> set[frozenset[str]]:
    return {
        frozenset(a for a, mine in zip(answers, numbers, strict=True) if mine == number)
        for number in set(numbers)
    }


@given(st.sampled_from(EXACT), ANSWERS, ANSWERS, ANSWERS)
async def test_sameness_is_an_equivalence(how: Comparison, a: str, b: str, c: str) -> None:
    comparer = Comparer(how, {"A": "12", "B": "no"})
    assert await comparer.verdict(a, a) == "same"
    assert await comparer.verdict(a, b) == await comparer.verdict(b, a)
    if await comparer.verdict(a, b) == await comparer.verdict(b, c) == "same":
        assert await comparer.verdict(a, c) == "same"


@given(ANSWERS, ANSWERS)
async def test_sameness_as_mathematics_is_reflexive_and_symmetric(a: str, b: str) -> None:
    comparer = Comparer("math")
    assert await comparer.verdict(a, a) == "same"
    assert await comparer.verdict(a, b) == await comparer.verdict(b, a)


@given(st.sampled_from(EXACT), st.lists(ANSWERS, max_size=8), st.randoms())
async def test_classes_do_not_depend_on_the_order_where_sameness_is_exact(
    how: Comparison, answers: list[str], random: Random
) -> None:
    comparer = Comparer(how)
    shuffled = sorted(answers, key=lambda _: random.random())
    there = partition(answers, await sorted_in(comparer, answers))
    assert partition(shuffled, await sorted_in(comparer, shuffled)) == there


@given(st.lists(ANSWERS, max_size=8), st.lists(ANSWERS, max_size=4))
async def test_later_answers_never_move_earlier_ones(first: list[str], later: list[str]) -> None:
    comparer = Comparer("math", tolerance=0.1)
    alone = await sorted_in(comparer, first)
    assert (await sorted_in(comparer, first + later))[: len(first)] == alone


@given(st.fractions(), st.integers(-20, 20))
async def test_a_number_is_the_same_in_every_spelling(value: Fraction, power: int) -> None:
    comparer = Comparer("math")
    top, bottom = value.numerator, value.denominator
    plain = f"{top}/{bottom}"
    assert await comparer.verdict(plain, rf"\frac{{{top}}}{{{bottom}}}") == "same"
    assert await comparer.verdict(f"{top}e{power}", rf"{top} \times 10^{{{power}}}") == "same"
    assert await comparer.verdict(plain, f"{top + bottom}/{bottom}") == "different"


@pytest.mark.parametrize(
    ("how", "one", "other", "same"),
    [
        ("text", "Straße ", "STRASSE", True),
        ("text", "ﬁne", "fine", True),
        ("text", r"\text{New York}", "new  york.", True),
        ("text", "1/2", "0.5", False),
        ("number", "about 12 cm", "12", True),
        ("number", "x = 1,200", "1200.0", True),
        ("number", "50%", "1/2", True),
        ("number", "50%", "50", False),
        ("number", "1.2e3", r"1.2 \times 10^3", True),
        ("number", "3 of 4", "3", False),
        ("number", "none", "None.", True),
        ("choice", "(B)", r"\textbf{B}", True),
        ("choice", "The answer is B", "b", True),
        ("choice", "B. twelve", "(B) 12", True),
        ("choice", "A", "B", False),
        ("choice", "all of them", "All of them.", True),
        ("math", "12 cm", "12", True),
        ("math", "x+1", "1+x", False),
    ],
)
async def test_each_way_compares_by_its_own_rule(
    how: Comparison, one: str, other: str, same: bool
) -> None:
    assert await Comparer(how).verdict(one, other) == ("same" if same else "different")


async def test_a_tolerance_is_relative_to_the_larger_number() -> None:
    for comparer in (Comparer("number", tolerance=0.01), Comparer("math", tolerance=0.01)):
        assert await comparer.verdict("100", "99") == "same"
        assert await comparer.verdict("100", "98.9") == "different"
        assert await comparer.verdict("0.0001", "0.0002") == "different"


LISTED = "Which is prime?\nA. 4\nB. 7\nC. 9"


@pytest.mark.parametrize(
    ("question", "how"), [(LISTED, "choice"), ("1+1?", "math"), ("In triangle ABC, (A) is", "math")]
)
def test_auto_asks_for_a_letter_where_the_question_lists_options(question: str, how: str) -> None:
    asked = Question("q", (Message("user", question),))
    assert Comparer.of(asked, "auto").how == how
    assert Comparer.of(asked, "text").how == "text"


async def test_an_option_s_text_stands_for_its_letter() -> None:
    comparer = Comparer.of(Question("q", (Message("user", LISTED),)), "auto")
    assert await comparer.verdict("7", "(B)") == "same"
    assert await comparer.verdict("7", "C") == "different"


async def test_only_what_may_be_a_formula_is_asked_of_mathematics() -> None:
    told = Told(pairs(("x+1", "1+x")))
    comparer = Comparer("math", mathematics=told)
    assert await sorted_in(comparer, ["12", "13", "no", "on", "12 cm", "x+1"]) == [0, 1, 2, 3, 0, 4]
    assert {x for pair in told.asked for x in pair} <= {"12", "13", "x+1"}
    assert await comparer.verdict("1+x", "x+1") == "same"


def test_words_and_absurd_texts_are_no_formulas() -> None:
    for answer in ("no", "no solution", "March 5", "x+" * 300, "(" * 40 + ")" * 40):
        assert not mathematical(answer)
    for answer in ("x", "2x", r"\sin x", r"\begin{pmatrix}1\end{pmatrix}", "x=2 or x=3", r"\pi"):
        assert mathematical(answer)


async def test_where_sameness_is_not_transitive_the_first_class_wins() -> None:
    told = Told(pairs(("a+1", "b+1"), ("b+1", "c+1")))
    comparer = Comparer("math", mathematics=told)
    assert await sorted_in(comparer, ["a+1", "c+1", "b+1"]) == [0, 1, 0]


async def test_a_comparison_without_a_verdict_counts_as_different_and_is_told() -> None:
    told = Told(set(), silent=pairs(("x+1", "y+1")))
    classes = Classes(Comparer("math", mathematics=told))
    assert [await classes.of(a) for a in ("x+1", "y+1", "z+1", "y+1")] == [0, 1, 2, 1]
    assert classes.undecided == 1


async def test_when_patience_is_spent_nothing_is_asked_any_more() -> None:
    told = Told(pairs(("x+1", "1+x")))
    classes = Classes(Comparer("math", mathematics=told), patience=0)
    assert [await classes.of(a) for a in ("x+1", "1+x", "x+1")] == [0, 1, 0]
    assert (told.asked, classes.undecided) == ([], 1)


async def test_concurrent_answers_of_one_form_join_one_class() -> None:
    classes = Classes(Comparer("math", mathematics=Told(set())))
    answers = ["x+1", "y+1", "x + 1", "y + 1", "x+1"]
    assert await asyncio.gather(*map(classes.of, answers)) == [0, 1, 0, 1, 0]


class Slow:
    """Mathematics that takes until it is told to go on."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.go = asyncio.Event()

    async def same(self, one: str, other: str) -> bool | None:
        self.asked.set()
        await self.go.wait()
        return True


def boxes(*answers: str) -> Callable[..., Line]:
    def write(seen: str, request: Generate) -> Line:
        return Line(rf"\boxed{{{answers[int(request.chain.rpartition('/')[2])]}}}")

    return write


def run_of(
    scripted: Callable[..., Recorder], answers: tuple[str, ...], told: Mathematics, **method: Any
) -> Run:
    recorder = scripted(boxes(*answers))
    run = recorder.run(candidates=len(answers), takeover_rate=1e-6, **method)
    return replace(run, mathematics=told)


async def test_equal_formulas_vote_together(scripted: Callable[..., Recorder]) -> None:
    told = Told(pairs(("x+1", "1+x")))
    run = run_of(scripted, ("y+1", "x+1", "1+x"), told, consensus=False)
    answer = await scaling.answer(run, QUESTION)
    assert {vote.candidates for vote in answer.votes} == {(0,), (1, 2)}
    assert (answer.comparison, answer.undecided) == ("math", 0)


async def test_a_deadline_cuts_the_comparing_and_the_answer_still_votes(
    scripted: Callable[..., Recorder],
) -> None:
    run = run_of(scripted, ("x+1", "1+x"), Slow(), consensus=False, deadline_ms=200)
    answer = await scaling.answer(run, QUESTION)
    assert answer.stopped == "deadline"
    assert sorted(vote.candidates for vote in answer.votes) == [(0,), (1,)]
    assert answer.undecided == 1


async def test_cancelling_the_caller_ends_a_comparison(scripted: Callable[..., Recorder]) -> None:
    slow = Slow()
    asking = asyncio.create_task(scaling.answer(run_of(scripted, ("x+1", "1+x"), slow), QUESTION))
    await slow.asked.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert [t for t in asyncio.all_tasks() if t is not asyncio.current_task()] == []


async def test_chains_that_have_ended_vote_even_when_the_lead_is_decided_meanwhile(
    scripted: Callable[..., Recorder],
) -> None:
    slow = Slow()
    run = run_of(scripted, ("x+1", "1+x", "x+1", "x+1"), slow)
    asking = asyncio.create_task(scaling.answer(run, QUESTION))
    await slow.asked.wait()
    for _ in range(100):
        await asyncio.sleep(0)
    slow.go.set()
    answer = await asking
    assert sum(vote.votes for vote in answer.votes) == 4
    assert answer.undecided == 0


async def test_a_choice_that_ends_without_a_box_states_its_letter(
    scripted: Callable[..., Recorder],
) -> None:
    asked = Question("q", (Message("user", LISTED),))
    recorder = scripted(lambda seen, request: Line("7 is prime. The answer is (B).", finish="eos"))
    answer = await scaling.answer(recorder.run(takeover_rate=1e-6), asked)
    assert (answer.answer, answer.comparison) == ("B", "choice")
