"""A dataset of one's own: a JSONL or Parquet file with a question and an answer a row."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from atts_core.errors import BadInput
from atts_core.settings import Strict
from services.evaluation.items import Item

FILES = (".jsonl", ".jsonl.gz", ".parquet")
QUESTIONS = ("question", "problem", "prompt")
ANSWERS = ("answer", "final_answer", "solution", "target")
IDS = ("id", "unique_id", "question_id", "problem_id")


class FileOptions(Strict):
    """Which columns are meant, where they have other names than the usual ones."""

    question: str | None = Field(None, description=f"default: {', '.join(QUESTIONS)}")
    answer: str | None = Field(None, description=f"default: {', '.join(ANSWERS)}")
    id: str | None = Field(None, description=f"default: {', '.join(IDS)}, else the row's number")


def from_file(path: Path, options: FileOptions) -> list[Item]:
    """The rows of a file as questions; `BadInput` names the file, the row and the column."""
    if not path.exists():
        raise BadInput(f"--dataset: {path}: no such file", field="dataset")
    rows = _parquet(path) if path.suffix == ".parquet" else _jsonl(path)
    if not rows:
        raise BadInput(
            f"--dataset: {path} is empty; a row with a question and an answer each is needed",
            field="dataset",
        )
    columns = list(dict.fromkeys(key for row in rows for key in row))
    question = _column(path, columns, "question", options.question, QUESTIONS)
    answer = _column(path, columns, "answer", options.answer, ANSWERS)
    by = options.id and _column(path, columns, "id", options.id, ())
    by = by or next((name for name in IDS if name in columns), None)
    return [
        Item(
            str(number) if by is None else _text(path, number, row, by),
            _text(path, number, row, question),
            _text(path, number, row, answer),
        )
        for number, row in enumerate(rows, start=1)
    ]


def _jsonl(path: Path) -> list[dict[str, Any]]:
    rows = []
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise BadInput(f"--dataset: {path}: cannot be read: {error}", field="dataset") from None
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise BadInput(
                f"--dataset: {path}, line {number}: not JSON: {error}", field="dataset"
            ) from None
        if not isinstance(row, dict):
            raise BadInput(
                f"--dataset: {path}, line {number}: found {line[:60]!r}; an object is needed",
                field="dataset",
            )
        rows.append(row)
    return rows


def _parquet(path: Path) -> list[dict[str, Any]]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import read_table
    except ImportError:
        raise BadInput(
            "--dataset: a Parquet file needs pyarrow: pip install 'atts[eval]'", field="dataset"
        ) from None
    try:
        rows: list[dict[str, Any]] = read_table(path).to_pylist()
    except (ArrowException, OSError) as error:
        raise BadInput(f"--dataset: {path}: no Parquet file: {error}", field="dataset") from None
    return rows


def _column(
    path: Path, columns: Sequence[str], role: str, asked: str | None, usual: Sequence[str]
) -> str:
    """The column of a role: the one asked for, or the first of its usual names."""
    if asked is not None:
        if asked not in columns:
            raise BadInput(
                f"--dataset: {path}: {role}={asked}: no such column; there are: "
                f"{', '.join(columns)}",
                field=role,
            )
        return asked
    found = next((name for name in usual if name in columns), None)
    if found is None:
        raise BadInput(
            f"--dataset: {path} has no {role}s: no column is called {' or '.join(usual)}; there "
            f"are: {', '.join(columns)}. Name the right one: {path}:{role}=COLUMN",
            field=role,
        )
    return found


def _text(path: Path, number: int, row: dict[str, Any], column: str) -> str:
    value = row.get(column)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]  # an answer is often a list of one
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
        raise BadInput(
            f"--dataset: {path}, row {number}: {column}: found {value!r}; a text or a number is "
            "needed",
            field=column,
        )
    return str(value)
