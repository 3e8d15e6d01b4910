"""The results folder: nothing finished is lost, nothing foreign is mixed in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from atts_core.errors import BadInput
from services.evaluation.results import ROWS, Results, differences, read_configuration
from tests.services.evaluation.rows import row

CONFIGURATION = {"dataset": "d", "seeds": [1], "policies": {"atts": {"options": {"turns": 3}}}}


def opened(folder: Path, *, resume: bool = True, **other: object) -> Results:
    return Results(folder, {**CONFIGURATION, **other}, resume=resume)


async def test_rows_are_there_when_the_folder_is_opened_again(tmp_path: Path) -> None:
    with opened(tmp_path) as results:
        await results.add(row(question="a"))
    with opened(tmp_path) as again:
        assert again.finished(("atts", 1, "a"))
        assert not again.finished(("atts", 2, "a"))


async def test_a_row_that_was_cut_in_half_is_dropped_and_the_rest_kept(tmp_path: Path) -> None:
    with opened(tmp_path) as results:
        for question in "abc":
            await results.add(row(question=question))
    whole = (tmp_path / ROWS).read_bytes()
    last = whole[:-1].rfind(b"\n") + 1
    for cut in (last + 1, (last + len(whole)) // 2, len(whole) - 1):
        (tmp_path / ROWS).write_bytes(whole[:cut])
        with opened(tmp_path) as again:
            assert {question for _, _, question in again.rows} == {"a", "b"}
            await again.add(row(question="c"))
        assert (tmp_path / ROWS).read_bytes() == whole


async def test_a_question_that_failed_is_asked_again_and_its_newest_row_counts(
    tmp_path: Path,
) -> None:
    with opened(tmp_path) as results:
        await results.add(row(question="a", error="all candidates failed"))
        assert not results.finished(("atts", 1, "a"))
        await results.add(row(question="a"))
    with opened(tmp_path) as again:
        assert again.finished(("atts", 1, "a"))
        assert len(again.rows) == 1


async def test_results_are_not_written_over_unless_they_are_to_go_on(tmp_path: Path) -> None:
    with opened(tmp_path, resume=False) as results:
        await results.add(row())
    with pytest.raises(BadInput, match="--resume"):
        opened(tmp_path, resume=False)
    opened(tmp_path).close()


def test_a_folder_without_a_row_is_whoever_s_comes_next(tmp_path: Path) -> None:
    opened(tmp_path, resume=False).close()
    (tmp_path / ROWS).write_bytes(b'{"policy": "atts", "se')  # killed in its first write
    with opened(tmp_path, resume=False, seeds=[1, 2]) as results:
        assert not results.rows
    there = read_configuration(tmp_path)
    assert there is not None
    assert there["seeds"] == [1, 2]


async def test_another_configuration_is_refused_with_the_keys_that_differ(tmp_path: Path) -> None:
    with opened(tmp_path) as results:
        await results.add(row())
    with pytest.raises(BadInput) as refused:
        opened(tmp_path, seeds=[1, 2], policies={"atts": {"options": {"turns": 4}}})
    assert "seeds: [1] there, [1, 2] here" in refused.value.message
    assert "policies.atts.options.turns: 3 there, 4 here" in refused.value.message
    assert "dataset" not in refused.value.message


def test_a_key_that_only_one_side_has_is_named() -> None:
    assert differences({"a": 1}, {"b": 2}) == [
        "a: 1 there, nothing here",
        "b: nothing there, 2 here",
    ]


def test_two_evaluations_do_not_write_into_one_folder(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(BadInput, match="another evaluation writes there"):
        opened(tmp_path)


def test_a_file_of_something_else_is_refused_with_its_line(tmp_path: Path) -> None:
    opened(tmp_path).close()
    (tmp_path / ROWS).write_text(json.dumps(row()) + '\n{"hello": 1}\n')
    with pytest.raises(BadInput, match="line 2"):
        opened(tmp_path)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="--out"):
        opened(tmp_path / "file" / "results")
