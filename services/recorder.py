"""Keeps runs as traces: one line a finished candidate, compressed, readable after a crash.

The lines have the fields of `atts_core.calibration.traces`, so `atts replay` reads them, and more:
the run's policy, seed, rate and coverage, and each turn's decision with all it rested on.
"""

from __future__ import annotations

import logging
import math
import os
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

from atts_core import events
from atts_core.calibration.traces import VERSION, TraceWriter
from atts_core.errors import BadInput
from atts_core.settings import Method

log = logging.getLogger(__name__)

WAITING = 1_000
"""Records that wait for the disk at most; what comes then is dropped, never waited for."""
LARGEST_NLL = 700.0
"""Nats a token; a higher one has no perplexity that a float can hold."""


def prepare(folder: Path) -> None:
    """Make the folder; `BadInput` where it cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(folder, error.strerror or str(error)) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _unusable(folder, "no permission to write")


@contextmanager
def recording(folder: Path | None, name: str) -> Iterator[Recorder | None]:
    """A recorder for as long as the context lasts; none where there is no folder."""
    if folder is None:
        yield None
        return
    recorder = Recorder(folder, name)
    try:
        yield recorder
    finally:
        recorder.close()


class Recorder:
    """Writes records to one new file in `folder`, in a thread of its own.

    A record is on its way to the disk when the next one is taken: a file that is cut anywhere
    loses at most its last record. Raises `BadInput` where the folder cannot be written to.
    """

    def __init__(self, folder: Path, name: str, *, waiting: int = WAITING) -> None:
        prepare(folder)
        self.path = folder / f"trace-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{name}.jsonl.gz"
        self.written = 0
        self.dropped = 0
        self.error: str | None = None
        self._queue: queue.Queue[dict[str, Any] | None] = queue.Queue(waiting)
        self._thread = threading.Thread(target=self._write, name="recorder", daemon=True)
        self._thread.start()

    def run(
        self, question_id: str, method: Method, seed: int, coverage: str
    ) -> Callable[[events.Event], None]:
        """A consumer of one run's events; it records each candidate that finishes."""
        return RunRecord(self.put, question_id, method, seed, coverage)

    def put(self, record: dict[str, Any]) -> None:
        """Hand a record to the writer; where it is too far behind, drop it and say so."""
        try:
            self._queue.put_nowait(record)
        except queue.Full:
            self._drop("the disk is too slow")

    def _drop(self, why: str) -> None:
        self.dropped += 1
        if self.dropped & (self.dropped - 1) == 0:  # at 1, 2, 4, 8, …: heard, and no flood
            log.warning("%s: %s; records dropped so far: %s", self.path, why, self.dropped)

    def _write(self) -> None:
        record = self._queue.get()
        try:
            # No file before the first record: a router that is asked nothing leaves none.
            if record is not None:
                with TraceWriter(self.path) as trace:
                    self._write_into(trace, record)
        except OSError as error:
            self.error = f"nothing is recorded any more: {error.strerror}"
            self._drop(self.error)
            while self._queue.get() is not None:
                self._drop(self.error)

    def _write_into(self, trace: TraceWriter, record: dict[str, Any] | None) -> None:
        while record is not None:
            trace.write(record)
            self.written += 1
            record = self._queue.get()

    def state(self) -> dict[str, Any]:
        """What was kept, for the calibration report."""
        return {
            "file": str(self.path),
            "written": self.written,
            "dropped": self.dropped,
            "error": self.error,
        }

    def close(self, within: float = 5.0) -> None:
        """Write what waits, for `within` seconds at most; what is left then is lost, and said."""
        deadline = monotonic() + within
        with suppress(queue.Full):
            self._queue.put(None, timeout=within)
            self._thread.join(max(0.0, deadline - monotonic()))
        if self._thread.is_alive():
            left = self._queue.qsize()
            log.warning("%s: the disk is too slow to finish; records left: %s", self.path, left)


def _unusable(folder: Path, why: str) -> BadInput:
    return BadInput(
        f"record: {folder} cannot be used: {why}; name a folder that can be written to",
        field="record",
    )


@dataclass
class _Chain:
    """What is known so far of a candidate that is under way."""

    began: float
    turns: dict[int, dict[str, Any]] = field(default_factory=dict)

    def turn(self, turn: int) -> dict[str, Any]:
        empty = {"turn": turn, "draft": "", "ppl": None, "target": None}
        return self.turns.setdefault(turn, empty)


class RunRecord:
    """Turns the events of one run into one record a candidate."""

    def __init__(
        self,
        put: Callable[[dict[str, Any]], None],
        question_id: str,
        method: Method,
        seed: int,
        coverage: str,
    ) -> None:
        self._put = put
        self._question_id = question_id
        self._run = {
            "policy": method.policy,
            "seed": seed,
            "takeover_rate": method.rate,
            "coverage": method.coverage or coverage,
            "on_rejection": method.on_rejection,
        }
        self._chains: dict[int, _Chain] = {}

    def __call__(self, event: events.Event) -> None:
        match event:
            case events.CandidateStarted():
                self._chains[event.candidate] = _Chain(event.at)
            case events.SegmentDrafted():
                self._turn(event)["draft"] = event.text
            case events.SegmentScored():
                ppl = math.exp(min(event.nll, LARGEST_NLL))
                self._turn(event).update(ppl=ppl, nll=event.nll, tokens=event.tokens)
            case events.Decided():
                self._turn(event)["decision"] = asdict(event.decision)
            case events.TakenOver():
                self._turn(event).update(target=event.text, cue=event.cue)
            case events.Peeked():
                self._turn(event)["peek"] = event.text
            case events.StepJudged():
                self._turn(event)["grade"] = event.grade
            case events.SegmentWritten():
                # Nothing is scored, so a replay passes over it.
                self._turn(event)[event.model] = event.text
            case events.CandidateFinished():
                self._finish(event)
            case _:
                pass

    def _turn(
        self,
        event: events.SegmentDrafted
        | events.SegmentScored
        | events.Decided
        | events.TakenOver
        | events.Peeked
        | events.StepJudged
        | events.SegmentWritten,
    ) -> dict[str, Any]:
        return self._chains[event.candidate].turn(event.turn)

    def _finish(self, event: events.CandidateFinished) -> None:
        chain = self._chains.pop(event.candidate)
        self._put(
            {
                "version": VERSION,
                "question_id": self._question_id,
                "candidate": event.candidate,
                "final_answer": event.answer,
                "duration_s": event.at - chain.began,
                "ending": event.ending,
                **self._run,
                "turns": list(chain.turns.values()),
            }
        )
