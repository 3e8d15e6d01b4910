"""`atts eval` as one calls it: the embedded pair, a kill in the middle, and what is left then."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

EVAL = [sys.executable, "-m", "services.cli", "eval"]
ASKED = [
    "--dataset", "embedded:n=8,easiest=2,hardest=3", "--policy", "draft-only", "--policy", "atts",
    "--candidates", "2", "--seeds", "2", "--at-once", "2",
]  # fmt: skip


def run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*EVAL, *options], capture_output=True, text=True, check=False)


def rows(folder: Path) -> list[bytes]:
    path = folder / "results.jsonl"
    return path.read_bytes().splitlines(keepends=True) if path.exists() else []


def killed_in_the_middle(folder: Path) -> list[bytes]:
    """Whole rows of an evaluation that was killed after some."""
    process = subprocess.Popen([*EVAL, *ASKED, "--out", str(folder)], stderr=subprocess.DEVNULL)
    deadline = monotonic() + 240
    while len(rows(folder)) < 4:
        assert process.poll() is None, "it ended before it could be killed"
        assert monotonic() < deadline
        sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return [line for line in rows(folder) if line.endswith(b"\n")]


def test_a_killed_evaluation_goes_on_and_repeats_and_loses_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    before = killed_in_the_middle(folder)
    assert 4 <= len(before) < 32
    with (folder / "results.jsonl").open("ab") as file:
        file.write(b'{"policy": "atts", "se')  # as a kill in the middle of a write leaves it
    ended = run("--resume", "--out", str(folder), "--json", "--compare", "atts", "draft-only")
    assert ended.returncode == 0, ended.stderr
    after = rows(folder)
    assert after[: len(before)] == before
    keys = [(r["policy"], r["seed"], r["question"]) for r in map(json.loads, after)]
    assert len(keys) == len(set(keys)) == 2 * 2 * 8
    found = json.loads(ended.stdout)
    _check(found)
    assert json.loads((folder / "summary.json").read_text()) == found
    assert (folder / "table.md").read_text().count("| atts | ") == 3
    assert (folder / "timelines.png").exists()
    _check_that_another_is_refused(folder)


def _check(found: dict[str, Any]) -> None:
    assert list(found["policies"]) == ["draft-only", "atts"]
    for figures in found["policies"].values():
        assert figures["unasked"] == figures["failed"] == 0
        assert (figures["questions"], figures["seeds"]) == (8, 2)
        for name in ("pass_at_1", "majority", "pass_at_m", "latency_p50", "latency_p95"):
            assert figures[name] >= 0
        assert figures["seconds"] > 0
        assert figures["draft_tokens"] > 0
    assert found["policies"]["draft-only"]["target_tokens"] == 0
    assert found["policies"]["draft-only"]["target_engine_seconds"] == 0
    atts = found["policies"]["atts"]
    assert atts["target_tokens"] > 0
    assert 0 < atts["realised_takeover_rate"] < 1
    assert atts["target_engine_seconds"] <= atts["seconds"] * 1.05
    # An engine computes only while a request is in it.
    assert 0 < atts["target_step_seconds"] <= atts["target_engine_seconds"] * 1.2
    assert 0 < atts["draft_busy"] <= 1.05
    assert all(one["draft_busy"] > 0 for one in atts["by_seed"])
    assert {"majority", "latency", "latency_p95", "seconds"} <= found["compare"]["measures"].keys()


def _check_that_another_is_refused(folder: Path) -> None:
    ended = run("--resume", "--out", str(folder), "--candidates", "3", "--seeds", "1")
    assert ended.returncode == 2
    assert "policies.atts.options.candidates: 2 there, 3 here" in ended.stderr
    assert "seeds: [1, 2] there, [1] here" in ended.stderr
    ended = run(*ASKED, "--out", str(folder))
    assert ended.returncode == 2
    assert "--resume" in ended.stderr


def test_a_folder_of_something_else_is_not_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / "configuration.json").write_text('{"version": 1, "asked": {}}')
    ended = run("--resume", "--out", str(tmp_path))
    assert ended.returncode == 2
    assert "configuration.json is not that of an evaluation" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--policy", "best"], "--policy: found 'best'; known are"),
        (["--dataset", "embedded:steps=3"], "steps: unknown name"),
        (["--seeds", "one"], "--seeds: found 'one'"),
        (["--resume"], "--out FOLDER"),
        (["--compare", "atts", "none"], "found 'none'; asked are: target-only, draft-only, atts"),
        (["--from-trace", "trace.jsonl"], "--questions FILE is missing"),
        (["--server", "http://127.0.0.1:9"], "127.0.0.1:9"),
        (["--at-once", "0"], "at_once: found 0"),
        (["--at-once", "17"], "has room for 16 at once (limits.max_running)"),
        (
            ["--from-trace", "t", "--questions", "q", "--out", "o", "--policy", "atts"],
            "--from-trace: --policy, --out say nothing of a recorded run",
        ),
    ],
)
def test_what_cannot_be_is_one_line_that_says_what_to_do(
    tmp_path: Path, options: list[str], said: str
) -> None:
    ended = subprocess.run(
        [*EVAL, *options],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )
    assert ended.returncode in (1, 2)
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not list(tmp_path.iterdir())
