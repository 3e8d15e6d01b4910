"""Recorded runs: one JSON line a candidate, compressed, readable to the last whole record.

The format is that of the published traces (arXiv 2509.15148), with a version added:

    {"version": 1, "question_id": 0, "candidate": 3, "final_answer": "15", "duration_s": 46.9,
     "turns": [{"turn": 0, "draft": "…", "ppl": 1.707, "target": "…" or null}, …]}

`ppl` is null where scoring failed; `target` is what the target appended where it took over.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

from atts_core.errors import BadInput

VERSION = 1
_GZIP = 31
"""zlib's window bits for a gzip header."""


@dataclass(frozen=True, slots=True)
class TracedTurn:
    """A draft segment, its perplexity where it was scored, the target's text where it took over."""

    turn: int
    draft: str
    ppl: float | None
    target: str | None


@dataclass(frozen=True, slots=True)
class TracedCandidate:
    """One recorded chain; `duration_s` is seconds from its start to its end."""

    question_id: str
    candidate: int
    final_answer: str | None
    duration_s: float
    turns: tuple[TracedTurn, ...]


@dataclass(frozen=True, slots=True)
class Trace:
    """A recorded run; `cut` where its file ends in the middle of a record, which is left out."""

    candidates: tuple[TracedCandidate, ...]
    cut: bool


def read_trace(path: Path) -> Trace:
    """The trace in `path` (`.jsonl` or gzip), or `BadInput` that names file, line and field."""
    lines, cut = _lines(path)
    candidates = [
        _Record(f"{path}, line {number}", _parsed(path, number, line)).read()
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
    if not candidates:
        raise BadInput(f"{path}: holds no whole record")
    return Trace(tuple(candidates), cut)


def _lines(path: Path) -> tuple[list[bytes], bool]:
    """The whole lines of a file, and whether it is a gzip stream without its end."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from None
    if not data.startswith(b"\x1f\x8b"):
        return data.split(b"\n"), False
    text, ended = b"", True
    while data:
        stream = zlib.decompressobj(_GZIP)
        try:
            text += stream.decompress(data)
        except zlib.error as error:
            raise BadInput(f"{path}: the gzip stream is broken: {error}") from None
        ended, data = stream.eof, stream.unused_data
    lines = text.split(b"\n")
    return (lines, False) if ended else (lines[:-1], True)


def _parsed(path: Path, number: int, line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise BadInput(f"{path}, line {number}: not JSON: {error}") from None


class _Record:
    """One line being checked: every complaint names the file, the line and the field."""

    def __init__(self, where: str, value: Any) -> None:
        self.where = where
        self.value = value

    def read(self) -> TracedCandidate:
        record = self._object(self.value, "")
        version = record.get("version", VERSION)
        if version != VERSION or isinstance(version, bool):
            raise self._bad("version", version, f"the version known here is {VERSION}")
        question = self._field(record, "", "question_id")
        if not isinstance(question, str | int) or isinstance(question, bool):
            raise self._bad("question_id", question, "a text or a whole number is needed")
        turns = self._field(record, "", "turns")
        if not isinstance(turns, list):
            raise self._bad("turns", turns, "a list is needed")
        read = tuple(self._turn(turn, f"turns[{i}]") for i, turn in enumerate(turns))
        for i, (earlier, later) in enumerate(pairwise(read), start=1):
            if later.turn <= earlier.turn:
                raise self._bad(f"turns[{i}].turn", later.turn, "turns must ascend")
        return TracedCandidate(
            question_id=str(question),
            candidate=self._count(record, "", "candidate"),
            final_answer=self._text(record, "", "final_answer"),
            duration_s=self._duration(record),
            turns=read,
        )

    def _turn(self, value: Any, at: str) -> TracedTurn:
        turn = self._object(value, at)
        draft = self._text(turn, at, "draft")
        if draft is None:
            raise self._bad(f"{at}.draft", draft, "a text is needed")
        return TracedTurn(
            turn=self._count(turn, at, "turn"),
            draft=draft,
            ppl=self._perplexity(turn, at),
            target=self._text(turn, at, "target"),
        )

    def _object(self, value: Any, at: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self._bad(at or "record", value, "an object is needed")
        return value

    def _field(self, record: dict[str, Any], at: str, name: str) -> Any:
        if name not in record:
            raise BadInput(f"{self.where}: {_path(at, name)} is missing", field=_path(at, name))
        return record[name]

    def _text(self, record: dict[str, Any], at: str, name: str) -> str | None:
        value = self._field(record, at, name)
        if value is not None and not isinstance(value, str):
            raise self._bad(_path(at, name), value, "a text or null is needed")
        return value

    def _count(self, record: dict[str, Any], at: str, name: str) -> int:
        value = self._field(record, at, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self._bad(_path(at, name), value, "a whole number of at least 0 is needed")
        return value

    def _number(self, record: dict[str, Any], at: str, name: str) -> float:
        value = self._field(record, at, name)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self._bad(_path(at, name), value, "a number is needed")
        if not math.isfinite(value):
            raise self._bad(_path(at, name), value, "it must be finite")
        return float(value)

    def _duration(self, record: dict[str, Any]) -> float:
        value = self._number(record, "", "duration_s")
        if value < 0:
            raise self._bad("duration_s", value, "it must be at least 0")
        return value

    def _perplexity(self, turn: dict[str, Any], at: str) -> float | None:
        if self._field(turn, at, "ppl") is None:
            return None
        value = self._number(turn, at, "ppl")
        if value <= 0:
            raise self._bad(f"{at}.ppl", value, "a perplexity is above 0")
        return value

    def _bad(self, field: str, found: Any, needed: str) -> BadInput:
        shown = repr(found)
        shown = shown if len(shown) <= 60 else shown[:57] + "…"
        return BadInput(f"{self.where}: {field}: found {shown}; {needed}", field=field)


def _path(at: str, name: str) -> str:
    return f"{at}.{name}" if at else name


class TraceWriter:
    """Writes a new trace, record by record; what `write` returned from survives a crash.

    Each record ends in a sync flush of the compressor and of the file, so that a file cut at any
    byte loses at most the record it is cut in.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("xb")
        self._stream = zlib.compressobj(wbits=_GZIP)

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one finished chain, in the fields of the format (`as_record`) and any others."""
        line = json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"
        # Half of a surrogate pair, which a model may write, is no text a file can hold.
        self._file.write(self._stream.compress(line.encode(errors="replace")))
        self._file.write(self._stream.flush(zlib.Z_SYNC_FLUSH))
        self._file.flush()

    def close(self) -> None:
        self._file.write(self._stream.flush(zlib.Z_FINISH))
        self._file.close()

    def __enter__(self) -> TraceWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def as_record(candidate: TracedCandidate) -> dict[str, Any]:
    """A chain as one JSON object of the trace format."""
    return {
        "version": VERSION,
        "question_id": candidate.question_id,
        "candidate": candidate.candidate,
        "final_answer": candidate.final_answer,
        "duration_s": candidate.duration_s,
        "turns": [
            {"turn": t.turn, "draft": t.draft, "ppl": t.ppl, "target": t.target}
            for t in candidate.turns
        ],
    }
