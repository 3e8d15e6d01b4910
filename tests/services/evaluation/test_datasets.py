"""The embedded generator, local files, and what is wrong with some of them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from atts_core.errors import BadInput
from services.evaluation.datasets import load

ROWS = [{"question": "1+1?", "answer": "2"}, {"question": "2+2?", "answer": 4}]


def jsonl(folder: Path, rows: list[Any], name: str = "mine.jsonl") -> str:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_the_embedded_generator_gives_the_same_problems_for_the_same_seed() -> None:
    one, same, other = (load(f"embedded:n=5,seed={seed}") for seed in (3, 3, 4))
    assert one.items == same.items
    assert one.fingerprint == same.fingerprint != other.fingerprint
    assert len({item.id for item in one.items}) == 5


def test_limit_asks_the_first_questions_only() -> None:
    assert load("embedded:n=5", 2).items == load("embedded:n=5").items[:2]


def test_a_file_s_rows_are_questions_with_their_numbers_as_ids(tmp_path: Path) -> None:
    items = load(jsonl(tmp_path, ROWS)).items
    assert [(i.id, i.question, i.answer) for i in items] == [("1", "1+1?", "2"), ("2", "2+2?", "4")]


def test_a_compressed_file_reads_the_same(tmp_path: Path) -> None:
    plain = jsonl(tmp_path, ROWS)
    packed = tmp_path / "mine.jsonl.gz"
    packed.write_bytes(gzip.compress(Path(plain).read_bytes()))
    assert load(str(packed)).items == load(plain).items


def test_a_parquet_file_reads_the_same(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "mine.parquet"
    texts = [{k: str(v) for k, v in row.items()} for row in ROWS]
    parquet.write_table(pyarrow.Table.from_pylist(texts), path)
    assert load(str(path)).items == load(jsonl(tmp_path, ROWS)).items


def test_columns_of_other_names_can_be_named(tmp_path: Path) -> None:
    path = jsonl(tmp_path, [{"text": "1+1?", "gold": "2", "name": "a"}])
    (item,) = load(f"{path}:question=text,answer=gold,id=name").items
    assert (item.id, item.question, item.answer) == ("a", "1+1?", "2")


def test_an_instruction_follows_every_question(tmp_path: Path) -> None:
    (one, _) = load(jsonl(tmp_path, ROWS), instruction="Box it.").items
    assert one.question == "1+1?\n\nBox it."


@pytest.mark.parametrize(
    ("rows", "options", "said"),
    [
        ([], "", "is empty"),
        ([{"question": "1+1?"}], "", "has no answers: no column is called answer"),
        ([{"text": "1+1?", "answer": "2"}], "", "has no questions"),
        (ROWS, ":answer=gold", "answer=gold: no such column; there are: question, answer"),
        (ROWS, ":anwser=gold", "did you mean 'answer'"),
        ([ROWS[0] | {"id": 1}, ROWS[1] | {"id": 1}], "", "id '1' is there twice"),
        ([ROWS[0], ROWS[1] | {"answer": None}], "", "row 2: answer: found None"),
        ([ROWS[0], ROWS[1] | {"answer": ""}], "", "row 2: answer: found ''"),
        ([ROWS[0], [1, 2]], "", "line 2: found"),
    ],
)
def test_a_file_that_cannot_be_asked_is_refused_with_the_reason(
    tmp_path: Path, rows: list[Any], options: str, said: str
) -> None:
    with pytest.raises(BadInput, match=said):
        load(jsonl(tmp_path, rows) + options)


def test_a_line_that_is_not_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text('{"question": "1+1?", "answer": "2"}\nhello\n')
    with pytest.raises(BadInput, match="line 2: not JSON"):
        load(str(path))


def test_a_file_that_only_claims_to_be_parquet_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "mine.parquet"
    path.write_text("hello")
    with pytest.raises(BadInput, match="no Parquet file"):
        load(str(path))


@pytest.mark.parametrize("name", ["nothing", "missing.jsonl", "embedded:n=0", "math500:subset=x"])
def test_an_unknown_dataset_or_option_is_refused(name: str) -> None:
    with pytest.raises(BadInput):
        load(name)
