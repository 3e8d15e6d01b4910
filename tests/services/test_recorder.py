"""Recorded runs: complete, readable by the replay, also when cut; dropped, never waited for."""

from __future__ import annotations

import gzip
import json
import logging
import math
import os
import threading
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from atts_core.calibration.traces import read_trace
from atts_core.errors import BadInput
from atts_core.settings import Method
from atts_core.types import Message
from services.local import LocalBackend
from services.recorder import Recorder, recording
from services.service import Service
from tests.services.conftest import ANSWER, backend, client

BODY = {
    "model": "atts",
    "messages": [{"role": "user", "content": "What is 1 + 1?"}],
    "atts": {"candidates": 4, "seed": 7, "takeover_rate": 0.5, "consensus": False},
}


async def recorded(folder: Path, draft: Any = lambda seen, request: ANSWER) -> Path:
    """A trace of one question."""
    with recording(folder, "router") as recorder:
        plain = backend(draft, rates=lambda text: 0.5)
        service = plain.service
        served = LocalBackend(
            plain.settings,
            Service(service.draft, service.target, service.gate, service.limits, recorder),
        )
        async with client(served) as http:
            assert (await http.post("/v1/chat/completions", json=BODY)).status_code == 200
            shown = (await http.get("/v1/atts/calibration")).json()["recording"]
    assert recorder is not None
    assert shown["file"] == str(recorder.path)
    assert recorder.written == 4
    return recorder.path


async def test_a_run_is_a_trace_that_replay_reads(tmp_path: Path) -> None:
    trace = read_trace(await recorded(tmp_path / "new" / "folder"))
    assert not trace.cut
    assert [c.candidate for c in sorted(trace.candidates, key=lambda c: c.candidate)] == [
        0,
        1,
        2,
        3,
    ]
    assert len({c.question_id for c in trace.candidates}) == 1
    for candidate in trace.candidates:
        assert candidate.final_answer == "2"
        assert candidate.turns[0].draft == ANSWER
        assert candidate.turns[0].ppl == pytest.approx(math.exp(0.5))


async def test_a_record_holds_what_the_decision_rested_on(tmp_path: Path) -> None:
    path = await recorded(tmp_path)
    with gzip.open(path, "rt") as lines:
        records = [json.loads(line) for line in lines]
    for record in records:
        assert (record["version"], record["seed"], record["takeover_rate"]) == (1, 7, 0.5)
        assert (record["coverage"], record["policy"]) == ("adaptive", "atts")
        assert record["ending"] in ("answered", "eos")
        for turn in record["turns"]:
            decision = turn["decision"]
            assert {"p_value", "p_smoothed", "threshold", "coin", "bank", "cold"} <= set(decision)
            assert decision["taken_over"] == (turn["target"] is not None)
            assert turn["nll"] == 0.5
    assert {turn["target"] for record in records for turn in record["turns"]} == {None, ANSWER}


def candidate(recorder: Recorder, n: int) -> None:
    """One finished chain of about a kilobyte that compresses badly."""
    text = os.urandom(400).hex()
    recorder.put(
        {
            "version": 1,
            "question_id": "q",
            "candidate": n,
            "final_answer": None,
            "duration_s": 0.5,
            "turns": [{"turn": 0, "draft": text, "ppl": 1.5, "target": None}],
        }
    )


def test_a_file_cut_anywhere_loses_its_last_record_at_most(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "router")
    ends = []
    for n in range(6):
        candidate(recorder, n)
    recorder.close()
    whole = recorder.path.read_bytes()
    # Where a record ends in the compressed file: the writer flushed there.
    for size in range(1, len(whole)):
        text = zlib.decompressobj(31).decompress(whole[:size])
        if text.count(b"\n") > len(ends):
            ends.append(size)
    assert len(ends) == 6
    cut = tmp_path / "cut.jsonl.gz"
    for size in range(ends[0], len(whole), 37):
        cut.write_bytes(whole[:size])
        assert len(read_trace(cut).candidates) == sum(end <= size for end in ends)


def test_records_are_on_their_way_to_the_disk_before_the_end(tmp_path: Path) -> None:
    """What a crash would leave: the file is read while its writer still has it open."""
    recorder = Recorder(tmp_path, "router")
    for n in range(3):
        candidate(recorder, n)
    while recorder.written < 3:
        os.sched_yield()
    assert len(read_trace(recorder.path).candidates) == 3
    recorder.close()


class OnASlowDisk(Recorder):
    """A recorder whose disk takes nothing until it is let go."""

    let_go = threading.Event()

    def _write_into(self, file: BinaryIO, record: dict[str, Any] | None) -> None:
        self.let_go.wait()
        super()._write_into(file, record)


def test_a_disk_that_is_too_slow_costs_records_not_requests(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = OnASlowDisk(tmp_path, "router", waiting=2)
    with caplog.at_level(logging.WARNING):
        for n in range(20):
            candidate(recorder, n)
        dropped = recorder.dropped
        recorder.close(within=0.01)
    # One is with the writer, if it was quick enough to take it; two more wait.
    assert dropped in (17, 18)
    assert "the disk is too slow; records dropped so far: 16" in caplog.text
    assert "the disk is too slow to finish; records left: 2" in caplog.text
    recorder.let_go.set()
    recorder.close()
    assert recorder.written == 20 - dropped


def test_a_disk_that_fails_ends_the_recording_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder(tmp_path, "router")
    recorder.path.mkdir()
    with caplog.at_level(logging.WARNING):
        candidate(recorder, 0)
        candidate(recorder, 1)
        recorder.close()
    assert recorder.error is not None
    assert "nothing is recorded any more: File exists" in recorder.error
    assert (recorder.written, recorder.dropped) == (0, 2)
    assert "nothing is recorded any more" in caplog.text


def test_a_router_that_is_asked_nothing_leaves_no_file(tmp_path: Path) -> None:
    Recorder(tmp_path, "router").close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folder", ["/proc/nowhere", "a-file"])
def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path: Path, folder: str) -> None:
    (tmp_path / "a-file").write_text("")
    with pytest.raises(BadInput, match=r"record: .* cannot be used") as caught:
        Recorder(tmp_path / folder, "router")
    assert caught.value.field == "record"


async def test_a_lone_model_s_run_is_recorded_without_scores(tmp_path: Path) -> None:
    with recording(tmp_path, "router") as recorder:
        assert recorder is not None
        served = backend()
        service = served.service
        service.recorder = recorder
        method = Method(policy="target-only", candidates=2, seed=1, consensus=False)
        await service.answer((Message("user", "1 + 1?"),), method)
    trace = read_trace(recorder.path)
    turns = [turn for candidate in trace.candidates for turn in candidate.turns]
    assert {(t.draft, t.ppl, t.target) for t in turns} == {("", None, ANSWER)}
