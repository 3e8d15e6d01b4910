import itertools

import pytest

from models.arithmetic.problems import (
    CUE,
    LARGEST_FACTOR,
    STEP_END,
    Problem,
    Step,
    final_answer,
    grade,
    held_out,
    is_held_out,
    parse,
    training,
    work,
)

PROBLEM = Problem(47, (Step("+", 38), Step("*", 3), Step("-", 12)))


def test_question_and_solution_read_as_documented():
    assert PROBLEM.question == (
        "Start with 47. Add 38. Multiply by 3. Subtract 12. What is the result?"
    )
    assert PROBLEM.lines == (
        "47 + 38 = 77 + 8 = 85",
        "85 * 3 = 240 + 15 = 255",
        "255 - 12 = 245 - 2 = 243",
        r"The result is \boxed{243}.",
    )
    assert PROBLEM.answer == "243"


@pytest.mark.parametrize(
    ("value", "step", "line"),
    [
        (47, Step("+", 8), "47 + 8 = 55"),
        (47, Step("+", 30), "47 + 30 = 77"),
        (7, Step("*", 3), "7 * 3 = 21"),
        (40, Step("*", 3), "40 * 3 = 120"),
        (85, Step("-", 38), "85 - 38 = 55 - 8 = 47"),
    ],
)
def test_a_step_of_one_part_is_worked_directly(value, step, line):
    assert work(value, step) == line


def test_training_never_emits_a_held_out_question():
    for problem in itertools.islice(training(3), 2000):
        assert not is_held_out(problem.question)


def test_held_out_problems_are_all_held_out_different_and_the_same_for_a_seed():
    problems = held_out(200, seed=7)
    assert all(is_held_out(problem.question) for problem in problems)
    assert len({problem.question for problem in problems}) == 200
    assert problems == held_out(200, seed=7)
    assert {len(problem.steps) for problem in problems} == {8, 9, 10, 11, 12}


def test_values_stay_in_bounds_and_no_instruction_occurs_twice():
    for problem in itertools.islice(training(5), 500):
        assert len(set(problem.steps)) == len(problem.steps)
        assert all(0 <= value <= 999 for value in problem.values)
        for value, step in zip(problem.values, problem.steps, strict=False):
            assert step.op != "*" or value <= LARGEST_FACTOR


def test_a_question_parses_back_to_its_problem():
    for problem in held_out(50, seed=1):
        assert parse(problem.question) == problem
    with pytest.raises(ValueError, match="Start with"):
        parse("What is 3 + 4?")


def test_a_right_solution_is_graded_right_line_by_line():
    for problem in held_out(50, seed=2):
        grades = grade(problem, problem.solution)
        assert len(grades) == len(problem.lines)
        assert all(each.right for each in grades)
        assert grades[-1].after.finished


@pytest.mark.parametrize(
    "line",
    [
        "47 + 38 = 77 + 8 = 86",
        "47 + 38 = 78 + 8 = 86",
        "74 + 38 = 104 + 8 = 112",
        "47 + 83 = 127 + 3 = 130",
        "47 * 3 = 120 + 21 = 141",
        r"The result is \boxed{47}.",
        "noise",
        "47 + 38 = 77 + ",
    ],
)
def test_a_wrong_line_is_graded_wrong(line):
    assert [each.right for each in grade(PROBLEM, line + STEP_END)] == [False]


def test_work_that_goes_on_from_a_wrong_value_is_right_from_there():
    text = STEP_END.join(["47 + 38 = 77 + 8 = 86", "86 * 3 = 240 + 18 = 258"])
    assert [each.right for each in grade(PROBLEM, text)] == [False, True]


def test_the_line_after_the_cue_is_judged_from_the_state_before_the_checked_line():
    slip = f"47 + 38 = 77 + 8 = 86{STEP_END}{CUE}"
    text = f"{slip}47 + 38 = 77 + 8 = 85{STEP_END}85 * 3 = 240 + 15 = 255"
    assert [each.right for each in grade(PROBLEM, text)] == [False, True, True]
    kept = f"{slip}86 * 3 = 240 + 18 = 258"
    assert [each.right for each in grade(PROBLEM, kept)] == [False, False]


def test_a_line_cut_in_the_middle_is_reworked_behind_the_cue():
    grades = grade(PROBLEM, f"47 + 38 = 7{CUE}47 + 38 = 77 + 8 = 85{STEP_END}")
    assert [(each.right, each.reworked) for each in grades] == [(False, False), (True, True)]


def test_the_last_box_is_the_answer():
    assert final_answer(r"The result is \boxed{7}.Check. The result is \boxed{8}.") == "8"
    assert final_answer("85 * 3") is None
