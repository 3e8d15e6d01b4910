"""A results folder: `configuration.json`, and `results.jsonl` with a row a finished question.

A row is on the disk before its question counts as finished, and is never written again; a row that
a kill cut in half is dropped, and its question asked again.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from atts_core.errors import BadInput

Row: TypeAlias = dict[str, Any]
Key: TypeAlias = tuple[str, int, str]
"""Policy's label, seed, question's id."""

CONFIGURATION = "configuration.json"
ROWS = "results.jsonl"
WORDS = "asked"
"""In a configuration, the command line's words: others may ask for the same."""


def key(row: Mapping[str, Any]) -> Key:
    return row["policy"], row["seed"], row["question"]


def read_configuration(folder: Path) -> dict[str, Any] | None:
    """What the folder's results were made with; None where it has none."""
    path = folder / CONFIGURATION
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise BadInput(f"--out: {path}: cannot be read: {error}", field="out") from None
    if not isinstance(found, dict):
        raise BadInput(f"--out: {path}: no configuration of an evaluation", field="out")
    return found


def differences(there: Mapping[str, Any], here: Mapping[str, Any], at: str = "") -> list[str]:
    """The keys in which two configurations differ, with both values."""
    found: list[str] = []
    for name in dict.fromkeys([*there, *here]):
        path = f"{at}.{name}" if at else name
        one, other = there.get(name), here.get(name)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            found += differences(one, other, path)
        elif one != other:
            found.append(f"{path}: {_short(one)} there, {_short(other)} here")
    return found


def _without_words(configuration: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in configuration.items() if name != WORDS}


def _short(value: Any) -> str:
    text = "nothing" if value is None else json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "…"


class Results:
    """The folder of one evaluation, open for this process alone."""

    def __init__(self, folder: Path, configuration: Mapping[str, Any], *, resume: bool) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = (folder / ROWS).open("a+b")
        except OSError as error:
            raise BadInput(f"--out: {folder}: {error.strerror}", field="out") from None
        self._lock = asyncio.Lock()
        try:
            self._alone()
            self._cut_half_a_row()
            self.rows: dict[Key, Row] = self._read()
            """The newest row of each question."""
            self._claim(configuration, resume)
        except BaseException:
            self._file.close()
            raise

    def finished(self, of: Key) -> bool:
        """Whether a question has its answer, so that it is not asked again."""
        return of in self.rows and self.rows[of]["error"] is None

    async def add(self, row: Row) -> None:
        """Append a row; when this returns, it survives whatever comes."""
        line = json.dumps(row, ensure_ascii=True, allow_nan=False).encode() + b"\n"
        async with self._lock:
            await asyncio.to_thread(self._write, line)
            self.rows[key(row)] = row

    def _write(self, line: bytes) -> None:
        self._file.write(line)
        self._file.flush()
        os.fsync(self._file.fileno())

    def _alone(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadInput(
                f"--out: {self.folder}: another evaluation writes there; wait for it, or choose "
                "another folder",
                field="out",
            ) from None

    def _claim(self, configuration: Mapping[str, Any], resume: bool) -> None:
        """The folder becomes this configuration's, or is it already and is to go on.

        Without a row it is nobody's: an evaluation that could not begin does not keep it.
        """
        there = read_configuration(self.folder)
        if there is None or not self.rows:
            partial = self.folder / f".{CONFIGURATION}.part"
            partial.write_text(json.dumps(configuration, indent=2) + "\n")
            partial.replace(self.folder / CONFIGURATION)
            return
        if not resume:
            raise BadInput(
                f"--out: {self.folder} holds results already; go on with --resume, or choose "
                "another folder",
                field="out",
            )
        # As it reads after a round through JSON: tuples are lists, keys are texts.
        here = json.loads(json.dumps(configuration))
        changed = differences(_without_words(there), _without_words(here))
        if changed:
            raise BadInput(
                f"--resume: {self.folder} holds results of another configuration: "
                + "; ".join(changed)
                + ". Ask as it was asked there, or choose another folder",
                field="resume",
            )

    def _cut_half_a_row(self) -> None:
        """What stands behind the last whole line was being written when a process ended."""
        self._file.seek(0)
        whole = self._file.read().rfind(b"\n") + 1
        self._file.truncate(whole)

    def _read(self) -> dict[Key, Row]:
        self._file.seek(0)
        rows: dict[Key, Row] = {}
        for number, line in enumerate(self._file, start=1):
            try:
                row = json.loads(line)
                rows[key(row)] = row
            except (ValueError, KeyError, TypeError) as error:
                raise BadInput(
                    f"--out: {self.folder / ROWS}, line {number}: no row of an evaluation: "
                    f"{error!r}",
                    field="out",
                ) from None
        return rows

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Results:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()
