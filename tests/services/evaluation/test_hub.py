"""Known datasets: which rows are asked, and how a row becomes a question."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from atts_core import choices
from services.evaluation.hub import NAMES, HubOptions, items

PUBLISHED = HubOptions(subset="published")


def numbered(n: int) -> list[dict[str, Any]]:
    return [{"problem": f"problem {at}", "answer": at} for at in range(n)]


def gpqa(n: int) -> list[dict[str, Any]]:
    wrong = {f"Incorrect Answer {k}": f" wrong {k}\n" for k in (1, 2, 3)}
    return [{"Question": f"q {at}", "Correct Answer": "right", **wrong} for at in range(n)]


def test_math500_s_published_hundred_are_those_of_python_s_seed_42() -> None:
    """The first indices that `random.seed(42); random.sample(range(500), 100)` draws."""
    found = items("math500", numbered(500), PUBLISHED)
    assert [item.id for item in found[:4]] == [f"math500-{at}" for at in (327, 57, 12, 379)]
    assert len({item.id for item in found}) == 100


@pytest.mark.parametrize(("name", "first"), [("aime24", 15), ("aime25", 15), ("amc23", 50)])
def test_published_subsets_are_the_first_rows(name: str, first: int) -> None:
    found = items(name, numbered(83), PUBLISHED)
    assert [item.answer for item in found] == [str(at) for at in range(first)]
    assert len(items(name, numbered(83), HubOptions())) == 83


def test_gsm8k_s_answer_stands_behind_its_mark() -> None:
    rows = [{"question": f"q {at}", "answer": f"so 1,{at:03} #### 1,{at:03}"} for at in range(300)]
    assert items("gsm8k", rows, HubOptions())[7].answer == "1007"
    drawn = [items("gsm8k", rows, HubOptions(subset="published", seed=s)) for s in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(drawn[0]) == 100


def test_olympiad_s_published_subset_has_one_numerical_answer_each() -> None:
    rows = [
        {
            "question": f"q {at}",
            "final_answer": [str(at)] if at % 3 else ["1", "2"],
            "is_multiple_answer": at % 3 == 0,
            "answer_type": "Numerical" if at % 2 else "Expression",
        }
        for at in range(400)
    ]
    found = items("olympiad", rows, PUBLISHED)
    assert len(found) == 50
    assert all(int(item.answer) % 2 and int(item.answer) % 3 for item in found)
    assert items("olympiad", rows, HubOptions())[0].answer == "1, 2"


def test_gpqa_s_right_option_is_everywhere_and_where_the_answer_says() -> None:
    found = items("gpqa", gpqa(198), HubOptions())
    for item in found:
        listed = choices.options(item.question)
        assert list(listed) == ["A", "B", "C", "D"]
        assert listed[item.answer] == "right"
    counts = [sum(item.answer == letter for item in found) for letter in "ABCD"]
    assert min(counts) > 30  # 49.5 expected; the published code has 198, 0, 0, 0
    assert len(items("gpqa", gpqa(198), PUBLISHED)) == 60


def test_gpqa_s_order_is_the_seed_s_whatever_else_is_asked() -> None:
    whole = items("gpqa", gpqa(198), HubOptions(seed=5))
    assert items("gpqa", gpqa(198), HubOptions(seed=5)) == whole
    assert items("gpqa", gpqa(198), HubOptions(seed=5, subset="published")) == whole[:60]
    assert items("gpqa", gpqa(198), HubOptions(seed=6)) != whole


@pytest.mark.parametrize("name", NAMES)
def test_every_name_says_which_rule_was_published(name: str) -> None:
    assert NAMES[name].rule


def test_without_a_network_the_error_says_what_to_do(tmp_path: Any) -> None:
    pytest.importorskip("datasets")
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    asked = [sys.executable, "-m", "services.cli", "eval", "--dataset", "gsm8k"]
    ended = subprocess.run(asked, env=offline, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    for hint in ("atts eval --dataset gsm8k --limit 1", "HF_HOME", "--dataset embedded"):
        assert hint in ended.stderr
    assert "Traceback" not in ended.stderr
