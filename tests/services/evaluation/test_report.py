"""What is left in the folder, and what a document gets of it."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import subprocess
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from atts_core.errors import BadInput
from services.evaluation import report
from services.evaluation.about import nominal_rates
from services.evaluation.configuration import Asked, Wishes
from services.evaluation.results import Results
from tests.services.evaluation.rows import row

ROOT = Path(__file__).resolve().parents[3]
TEMPLATE = ROOT / "benchmarks" / "policies.md"
EMPTY = re.compile(r"<!-- eval [^\n]+ -->\s*<!-- /eval -->")
HOST = {
    "draft": {"model": "small"},
    "target": {"model": "large"},
    "method": {"candidates": 4, "takeover_rate": 0.3},
    "versions": {"python": "3.11.9", "torch": "2.9.0"},
}


@pytest.fixture
def finished(tmp_path: Path) -> tuple[Asked, Results]:
    """Two policies asked, a third one that the models cannot serve."""
    policy = ("atts", "target-only", "alone=draft-only")
    asked = Asked.of(Wishes(dataset="embedded:n=2", policy=policy))
    results = Results(tmp_path / "run", asked.configuration(HOST), resume=False)
    for label in policy[:2]:
        for item in asked.plan.items:
            asyncio.run(results.add(row(label, item.id)))
    return asked, results


def written(finished: tuple[Asked, Results], *compared: str) -> dict[str, object]:
    asked, results = finished
    one, other = compared
    return report.write(
        asked,
        results,
        asked.configuration(HOST),
        {"alone": "it needs more"},
        compared=(one, other),
        pictures=False,
    )


def test_summary_and_table_are_written_together(finished: tuple[Asked, Results]) -> None:
    found = written(finished, "atts", "target-only")
    folder = finished[1].folder
    assert json.loads((folder / "summary.json").read_text()) == found
    table = (folder / "table.md").read_text()
    assert table.startswith(
        "2 questions of `embedded:n=2`; m = 4; nominal takeover rate 0.3; seeds 1; 4 at once; "
        "small and large, a process each; python 3.11.9, torch 2.9.0; "
    )
    assert "\n- `alone`: `draft-only`\n\n| policy |" in table
    assert "- alone is not in the tables: it needs more" in table


def test_a_comparison_with_a_skipped_policy_says_why_there_is_none(
    finished: tuple[Asked, Results],
) -> None:
    compared = written(finished, "atts", "alone")["compare"]
    assert isinstance(compared, dict)
    assert compared["words"] == [
        "atts and alone cannot be compared: alone has no answers (it needs more)."
    ]


def test_every_kind_of_mark_is_filled(finished: tuple[Asked, Results], tmp_path: Path) -> None:
    document = tmp_path / "doc.md"
    whats = ("about", "table", "bounds", "seeds", "compare atts target-only", "compare atts alone")
    document.write_text("".join(f"<!-- eval run {w} -->\n<!-- /eval -->\n" for w in whats))
    found = written(finished, "atts", "target-only")
    assert report.into_document(document, finished[1], found) == list(whats)
    assert not EMPTY.search(document.read_text())


def benchmark_runs() -> list[list[str]]:
    """The words of each `atts eval` that `make bench-policies` runs."""
    printed = subprocess.run(
        ["make", "--dry-run", "--silent", "bench-policies"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    lines = printed.replace("\\\n", " ").splitlines()
    return [words for words in map(shlex.split, lines) if words[1:2] == ["eval"]]


def values_of(option: str, words: Sequence[str]) -> list[str]:
    return [value for name, value in pairwise(words) if name == option]


def fill(document: Path, words: Sequence[str], folder: Path) -> str:
    """Put a run's figures, of two made-up answers a policy, into the document; the run's name."""
    (out,) = values_of("--out", words)
    asked = Asked.of(
        Wishes(
            dataset="embedded:n=2",
            policy=tuple(values_of("--policy", words)),
            candidates=int(values_of("--candidates", words)[0]),
            seeds=values_of("--seeds", words)[0],
        )
    )
    skipped = {"specreason": "it needs a chat model"}
    run = Path(out).name
    with Results(folder / out, asked.configuration(HOST), resume=False) as results:
        results.rows = {
            (policy.label, seed, item.id): row(policy.label, item.id, seed)
            for policy in asked.plan.policies
            for seed in asked.plan.seeds
            for item in asked.plan.items
            if policy.label not in skipped
        }
        found = report.write(
            asked, results, asked.configuration(HOST),
            skipped if "specreason" in words else {},
            compared=None, pictures=f"<!-- eval {run} picture" in TEMPLATE.read_text(),
        )  # fmt: skip
        report.into_document(document, results, found)
    return run


def test_make_bench_policies_fills_every_mark_of_its_template(tmp_path: Path) -> None:
    document = tmp_path / "docs" / "benchmarks.md"
    document.parent.mkdir()
    text = TEMPLATE.read_text()
    document.write_text(text)
    runs = [fill(document, words, tmp_path) for words in benchmark_runs()]
    assert sorted(set(re.findall(r"<!-- eval (\S+)", text))) == sorted(runs)
    assert not EMPTY.search(document.read_text())
    shown = re.findall(r"!\[.*?\]\((.*?)\)", document.read_text())
    assert shown
    assert all((document.parent / picture).exists() for picture in shown)
    assert "- specreason is not in the tables: it needs a chat model" in document.read_text()


def test_nominal_rates_are_the_request_s_or_the_host_s() -> None:
    one = {"atts": {"policy": "atts"}, "target-only": {"policy": "target-only"}}
    assert nominal_rates(one, HOST) == {"atts": 0.3}
    both = {**one, "more": {"policy": "atts-sync", "takeover_rate": 0.5}}
    assert nominal_rates(both, HOST) == {"atts": 0.3, "more": 0.5}
    assert nominal_rates(both, {"server": "http://there"}) == {"more": 0.5}


@pytest.mark.parametrize("what", ["chart", "picture nothing", "compare atts"])
def test_a_mark_that_cannot_be_filled_is_refused_by_name(
    finished: tuple[Asked, Results], tmp_path: Path, what: str
) -> None:
    document = tmp_path / "doc.md"
    document.write_text(f"<!-- eval run {what} -->\n<!-- /eval -->\n")
    found = written(finished, "atts", "target-only")
    with pytest.raises(BadInput, match=what.split()[0]):
        report.into_document(document, finished[1], found)
