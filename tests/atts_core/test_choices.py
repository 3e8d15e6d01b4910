"""Options are found where a question lists them, and only there; letters in any dress."""

import pytest

from atts_core.choices import letter, options, stated

AMC = r"How long? $\textbf{(A)}\ 10\qquad\textbf{(B)}\ 12\text{ cm}\qquad\textbf{(C)}\ \frac{1}{2}$"


@pytest.mark.parametrize(
    ("question", "listed"),
    [
        ("Which?\nA. red\nB. blue", {"A": "red", "B": "blue"}),
        ("Which?\n(A) red\n(B) blue\n", {"A": "red", "B": "blue"}),
        ("Which?\n  A) 1/2\n  B) 3\n  C) none.", {"A": "1/2", "B": "3", "C": "none"}),
        ("Which? (A) red (B) blue (C) green", {"A": "red", "B": "blue", "C": "green"}),
        (AMC, {"A": "10", "B": "12 cm", "C": r"\frac 1 2"}),
    ],
)
def test_listed_options_are_found(question: str, listed: dict[str, str]) -> None:
    assert options(question) == listed


@pytest.mark.parametrize(
    "question",
    [
        "What is 1+1?",
        "Triangle ABC has sides a, b and c.",
        "dot(A);\ndot(B);\ndot(C);",
        "A. Einstein was born in which year?",
        "See (A) and (B).",
        "B. red\nC. blue",
        "Points (A), (C) and (B) lie on a line.",
        "P(A) + P(B) + P(C) = 1",
    ],
)
def test_letters_that_list_nothing_are_no_options(question: str) -> None:
    assert options(question) == {}


LISTED = {"A": "10", "B": "12 cm", "C": "red", "D": "red"}


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        ("B", "B"),
        ("b", "B"),
        ("(B)", "B"),
        ("B.", "B"),
        ("[B]", "B"),
        (r"\text{B}", "B"),
        (r"\textbf{(B)}", "B"),
        (r"$\mathrm{B}$", "B"),
        ("(B) 12 cm", "B"),
        ("B: 12 cm", "B"),
        ("The answer is B", "B"),
        ("Answer: (B)", "B"),
        ("The correct option is B.", "B"),
        ("12 cm", "B"),
        (r"12 \text{ cm}", "B"),
        ("red", None),
        ("7", None),
        ("", None),
        ("Bob", None),
        ("K", None),
    ],
)
def test_an_answer_names_an_option(answer: str, named: str | None) -> None:
    assert letter(answer, LISTED) == named


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("First I thought the answer is A. But no: the answer is (C).", "C"),
        ("Answer: **D**", "D"),
        (r"The answer is $\boxed{\text{B}}$", "B"),
        ("The answer is a number", None),
        ("The answer is A thing that", None),
        ("The answer is I think large", None),
        ("The answer is Bob", None),
        ("nothing", None),
        ("answer" + " " * 100_000 + ":", None),
    ],
)
def test_a_letter_is_stated_as_the_answer(text: str, named: str | None) -> None:
    assert stated(text) == named
