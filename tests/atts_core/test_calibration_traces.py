"""Traces survive a crash to the last whole record; what is wrong in one is named exactly."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atts_core.calibration.published import conformities, read_perplexities
from atts_core.calibration.synthetic import Recipe, synthetic
from atts_core.calibration.traces import (
    TracedCandidate,
    TracedTurn,
    TraceWriter,
    as_record,
    read_trace,
)
from atts_core.errors import BadInput

CHAINS = synthetic(Recipe(questions=3, candidates=4, turns=4), 1).candidates


def written(path: Path, chains: tuple[TracedCandidate, ...] = CHAINS) -> Path:
    with TraceWriter(path) as writer:
        for chain in chains:
            writer.write(as_record(chain))
    return path


def lines(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    odd = TracedCandidate(
        "q", 1, None, 0.5, (TracedTurn(0, "á\n\u2028", None, "…"), TracedTurn(2, "", 2.0, None))
    )
    trace = read_trace(written(tmp_path / "t.jsonl.gz", (*CHAINS, odd)))
    assert trace.candidates == (*CHAINS, odd)
    assert not trace.cut


def test_plain_and_gzip_by_other_tools_are_read(tmp_path: Path) -> None:
    plain = lines(tmp_path / "t.jsonl", *map(as_record, CHAINS))
    packed = tmp_path / "t.jsonl.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()[:-1]))
    joined = tmp_path / "two.jsonl.gz"
    joined.write_bytes(gzip.compress(plain.read_bytes()) * 2)
    assert read_trace(plain).candidates == read_trace(packed).candidates == CHAINS
    assert read_trace(joined).candidates == CHAINS * 2


def test_a_file_cut_anywhere_loses_at_most_its_last_record(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl.gz"
    ends = []
    writer = TraceWriter(path)
    for chain in CHAINS:
        writer.write(as_record(chain))
        ends.append(path.stat().st_size)
    data = path.read_bytes()
    writer.close()
    cut = tmp_path / "cut.jsonl.gz"
    for size in range(ends[0], len(data), 3):
        cut.write_bytes(data[:size])
        whole = sum(1 for end in ends if end <= size)
        assert read_trace(cut).candidates[:whole] == CHAINS[:whole]


def test_further_fields_and_broken_text_are_kept_readable(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl.gz"
    with TraceWriter(path) as writer:
        writer.write({**as_record(CHAINS[0]), "final_answer": "\ud800", "policy": "atts"})
    assert read_trace(path).candidates == (replace(CHAINS[0], final_answer="?"),)


def test_a_cut_file_says_so(tmp_path: Path) -> None:
    data = written(tmp_path / "t.jsonl.gz").read_bytes()
    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes(data[: len(data) - 60])
    assert read_trace(cut).cut


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    path = written(tmp_path / "t.jsonl.gz")
    with pytest.raises(FileExistsError):
        TraceWriter(path)


def changed(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    record = as_record(CHAINS[0])
    change(record)
    return record


@pytest.mark.parametrize(
    ("change", "field", "says"),
    [
        (lambda r: r.pop("candidate"), "candidate", "missing"),
        (lambda r: r["turns"][0].pop("ppl"), "turns[0].ppl", "missing"),
        (lambda r: r["turns"][0].update(ppl=-1.5), "turns[0].ppl", "above 0"),
        (lambda r: r["turns"][0].update(ppl=0), "turns[0].ppl", "above 0"),
        (lambda r: r["turns"][0].update(ppl=float("inf")), "turns[0].ppl", "finite"),
        (lambda r: r["turns"][0].update(ppl=float("nan")), "turns[0].ppl", "finite"),
        (lambda r: r["turns"][0].update(ppl="2"), "turns[0].ppl", "a number"),
        (lambda r: r["turns"][0].update(draft=None), "turns[0].draft", "a text"),
        (lambda r: r["turns"][0].update(turn=-1), "turns[0].turn", "at least 0"),
        (lambda r: r.update(turns={}), "turns", "a list"),
        (lambda r: r.update(turns=[1]), "turns[0]", "an object"),
        (lambda r: r.update(turns=r["turns"][:1] * 2), "turns[1].turn", "ascend"),
        (lambda r: r.update(version=2), "version", "known here is 1"),
        (lambda r: r.update(question_id=None), "question_id", "a text or a whole number"),
        (lambda r: r.update(duration_s=-1), "duration_s", "at least 0"),
        (lambda r: r.update(candidate=True), "candidate", "a whole number"),
        (lambda r: r.update(final_answer=3), "final_answer", "a text or null"),
    ],
)
def test_a_wrong_field_is_named_with_file_and_line(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], field: str, says: str
) -> None:
    path = lines(tmp_path / "t.jsonl", as_record(CHAINS[0]), changed(change))
    with pytest.raises(BadInput, match=says) as raised:
        read_trace(path)
    assert raised.value.field == field
    assert raised.value.message.startswith(f"{path}, line 2: {field}")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b'{"question_id": 0,\n', "line 1: not JSON"),
        (b"[]\n", "line 1: record: found"),
        (b"\xff\xfe\n", "line 1: not JSON"),
        (b"", "holds no whole record"),
        (gzip.compress(b"{}\n")[:-4] + b"oops", "gzip stream is broken"),
        (gzip.compress(b"{}\n") + b"oops", "gzip stream is broken"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, data: bytes, says: str) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(data)
    with pytest.raises(BadInput, match=says) as raised:
        read_trace(path)
    assert str(path) in raised.value.message


def test_a_missing_file_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        read_trace(tmp_path / "none.jsonl")


def test_perplexities_become_conformities(tmp_path: Path) -> None:
    path = tmp_path / "ppl.npy"
    np.save(path, np.array([1.0, np.e, 2.0]))
    assert conformities(read_perplexities(path)) == pytest.approx([0.0, -1.0, -np.log(2)])


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.ones((2, 2)), r"shape \(2, 2\)"),
        (np.ones(0), r"shape \(0,\)"),
        (np.array(["a"]), "numbers are needed"),
        (np.array([1.0, np.inf]), "element 1"),
        (np.array([-2.0]), "element 0"),
        (np.array([1, None], dtype=object), "not a plain .npy array"),
    ],
)
def test_a_wrong_calibration_is_refused(tmp_path: Path, array: Any, says: str) -> None:
    path = tmp_path / "ppl.npy"
    np.save(path, array)
    with pytest.raises(BadInput, match=says) as raised:
        read_perplexities(path)
    assert str(path) in raised.value.message


def test_what_is_no_array_at_all_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ppl.npy"
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(BadInput, match="not a plain"):
        read_perplexities(path)
    with pytest.raises(BadInput, match="cannot be read"):
        read_perplexities(tmp_path / "none.npy")
