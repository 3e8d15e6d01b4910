from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atts_core.answers import boxed, normal_form, split_reasoning


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{12}.", "12"),
        (r"\boxed{1} then \boxed{2}", "2"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed {x_{1}}", "x_{1}"),
        (r"\boxed{7} and an open \boxed{8", "7"),
        (r"\boxed{a \} b}", r"a \} b"),
        ("no box", None),
        (r"\boxed{never closed", None),
    ],
)
def test_the_last_complete_box_is_the_answer(text: str, answer: str | None) -> None:
    assert boxed(text) == answer


def test_a_box_that_closed_before_the_given_place_does_not_count() -> None:
    text = r"\boxed{1} wait"
    assert boxed(text, closed_after=len(text) - 5) is None
    assert boxed(text + r" \boxed{2}", closed_after=len(text)) == "2"


def test_a_box_may_be_opened_by_one_model_and_closed_by_the_other() -> None:
    text = r"\boxed{1"
    assert boxed(text + "2}", closed_after=len(text)) == "12"


@given(st.text(alphabet="\\boxed{} 1a", max_size=60))
def test_any_text_has_an_answer_or_none(text: str) -> None:
    answer = boxed(text)
    assert answer is None or answer in text


def test_a_number_of_absurd_length_is_compared_as_text() -> None:
    assert not isinstance(normal_form("9" * 10_000), Fraction)


@pytest.mark.parametrize(
    ("text", "reasoning", "statement"),
    [
        ("<think>hm</think>It is \\boxed{2}.", "hm", "It is \\boxed{2}."),
        ("1 + 1 = 2\n\nThe result is \\boxed{2}.", "1 + 1 = 2", "The result is \\boxed{2}."),
        ("I do not know", "", "I do not know"),
        ("one\n\ntwo", "", "one\n\ntwo"),
    ],
)
def test_the_final_statement_is_told_from_the_reasoning(
    text: str, reasoning: str, statement: str
) -> None:
    assert split_reasoning(text) == (reasoning, statement)


def test_the_target_s_last_words_are_the_statement_where_it_took_over_in_that_paragraph() -> None:
    before = "1 + 1 = 2\n\nThe result is \\boxed{3}.Check. "
    text = before + "The result is \\boxed{2}."
    assert split_reasoning(text, len(before)) == (before.strip(), "The result is \\boxed{2}.")


def test_a_takeover_without_an_answer_of_its_own_leaves_the_statement_whole() -> None:
    text = "1 + 1 = 2\n\nso \\boxed{2} indeed"
    assert split_reasoning(text, len(text) - 6) == ("1 + 1 = 2", "so \\boxed{2} indeed")
