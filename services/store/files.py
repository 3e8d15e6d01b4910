"""Scores as a file: one JSON line a score after a header that says whose they are.

    {"format": "atts-calibration", "version": 1, "pair": {"draft": …, "target": …, "template": …,
     "score": …}, "database": "…", "generation": 0, "scores": 2}
    {"origin": "…", "sequence": 1, "turn": 0, "conformity": -0.53}
    {"origin": "…", "sequence": 2, "turn": 1, "conformity": -0.31}

`conformity` is in nats a token. `database` and `generation` say in which life of which database
the scores were: there, and only there, they keep their identity.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from atts_core.calibration.keys import PairKey, Record
from atts_core.calibration.published import conformities, read_perplexities
from atts_core.errors import BadInput

FORMAT = "atts-calibration"
VERSION = 1


@dataclass(frozen=True)
class Exported:
    """The scores of a file. An array of perplexities knows neither its pair nor a database."""

    pair: PairKey | None
    database: str
    generation: int
    records: list[Record]


def write_export(path: Path, exported: Exported) -> None:
    """Write the file whole or not at all; one that was there before is replaced."""
    assert exported.pair is not None
    header = {
        "format": FORMAT,
        "version": VERSION,
        "pair": asdict(exported.pair),
        "database": exported.database,
        "generation": exported.generation,
        "scores": len(exported.records),
    }
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            file.write(json.dumps(header, ensure_ascii=False) + "\n")
            for record in exported.records:
                file.write(json.dumps(asdict(record), ensure_ascii=False) + "\n")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise BadInput(f"{path}: cannot be written: {error.strerror}") from None


def read_scores(path: Path, turn: int) -> Exported:
    """An exported file, or an `.npy` array of perplexities, which count as of `turn`.

    Raises `BadInput` with the file and, where there are such, the line and the field.
    """
    if path.suffix == ".npy":
        return _read_array(path, turn)
    try:
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path}: not a text file; an export or an .npy array is needed") from None
    if lines == [""]:
        raise BadInput(f"{path}: empty; an export or an .npy array is needed")
    header = _Line(path, 1, lines[0])
    pair, database, generation, count = header.header()
    records = list(_records(path, lines[1:]))
    if len(records) != count:
        raise BadInput(
            f"{path}, line {len(lines)}: the file ends after {len(records)} of {count} scores; "
            "it was cut, or changed by hand"
        )
    return Exported(pair, database, generation, records)


def _read_array(path: Path, turn: int) -> Exported:
    perplexities = read_perplexities(path)
    low = perplexities < 1 - 1e-6  # what rounding to 32 bits may do to a 1
    if low.any():
        at = int(low.argmax())
        raise BadInput(
            f"{path}: element {at}: found {perplexities[at]}; a perplexity is at least 1"
        )
    # Named by its content: the same array, imported twice, is there once.
    origin = "npy:" + hashlib.sha256(perplexities.tobytes()).hexdigest()[:16]
    records = [
        Record(origin, sequence, turn, conformity)
        for sequence, conformity in enumerate(conformities(perplexities), start=1)
    ]
    return Exported(None, "", 0, records)


def _records(path: Path, lines: list[str]) -> Iterator[Record]:
    """The records, in which every origin's sequence must ascend: routers rely on it."""
    last: dict[str, int] = {}
    for number, text in enumerate(lines, start=2):
        line = _Line(path, number, text)
        record = line.record()
        if record.sequence <= last.get(record.origin, 0):
            raise line.bad("sequence", record.sequence, "it must ascend for each origin, from 1")
        last[record.origin] = record.sequence
        yield record


class _Line:
    """One line being checked: every complaint names the file, the line and the field."""

    def __init__(self, path: Path, number: int, text: str) -> None:
        self._where = f"{path}, line {number}"
        try:
            self._value: Any = json.loads(text)
        except ValueError as error:
            raise BadInput(f"{self._where}: not JSON: {error}") from None
        if not isinstance(self._value, dict):
            raise BadInput(f"{self._where}: found {text[:60]!r}; a JSON object is needed")

    def header(self) -> tuple[PairKey, str, int, int]:
        if self._text(self._value, "format") != FORMAT:
            raise self.bad("format", self._value["format"], f"{FORMAT!r} is needed")
        version = self._whole("version", 1)
        if version != VERSION:
            raise self.bad("version", version, f"the version known here is {VERSION}")
        key = self._value.get("pair")
        if not isinstance(key, dict):
            raise self.bad("pair", key, "an object is needed")
        names = ("draft", "target", "template", "score")
        pair = PairKey(*(self._text(key, name, f"pair.{name}") for name in names))
        count = self._whole("scores", 0)
        return pair, self._text(self._value, "database"), self._whole("generation", 0), count

    def record(self) -> Record:
        return Record(
            self._text(self._value, "origin"),
            self._whole("sequence", 1),
            self._whole("turn", 0, below=2**31),
            self._conformity(),
        )

    def _conformity(self) -> float:
        value = self._value.get("conformity")
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self.bad("conformity", value, "a number is needed")
        if not math.isfinite(value):
            raise self.bad("conformity", value, "it must be finite")
        return float(value)

    def _text(self, holder: dict[str, Any], name: str, shown: str | None = None) -> str:
        value = holder.get(name)
        if not isinstance(value, str) or not value.isprintable():
            raise self.bad(shown or name, value, "a printable text is needed")
        return value

    def _whole(self, name: str, least: int, below: int = 2**63) -> int:
        value = self._value.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value < below:
            raise self.bad(name, value, f"a whole number from {least} to {below - 1} is needed")
        return value

    def bad(self, field: str, found: Any, needed: str) -> BadInput:
        shown = "nothing" if found is None else repr(found)[:60]
        return BadInput(f"{self._where}: {field}: found {shown}; {needed}", field=field)
