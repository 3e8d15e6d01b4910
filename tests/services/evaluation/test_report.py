"""What is left in the folder, and what a document gets of it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from atts_core.errors import BadInput
from services.evaluation import report
from services.evaluation.configuration import Asked, Wishes
from services.evaluation.results import Results
from tests.services.evaluation.rows import row

HOST = {"draft": "small", "target": "large"}


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
    assert "2 questions of `embedded:n=2`, seeds 1, 4 at once; in process, small and large" in table
    assert "- alone is not in the tables: it needs more" in table


def test_a_comparison_with_a_skipped_policy_says_why_there_is_none(
    finished: tuple[Asked, Results],
) -> None:
    compared = written(finished, "atts", "alone")["compare"]
    assert isinstance(compared, dict)
    assert compared["words"] == [
        "atts and alone cannot be compared: alone has no answers (it needs more)."
    ]


def test_every_mark_of_the_benchmarks_template_is_filled(
    finished: tuple[Asked, Results], tmp_path: Path
) -> None:
    document = tmp_path / "doc.md"
    whats = ("about", "table", "seeds", "compare atts target-only", "compare atts alone")
    document.write_text("".join(f"<!-- eval run {w} -->\n<!-- /eval -->\n" for w in whats))
    found = written(finished, "atts", "target-only")
    assert report.into_document(document, finished[1], found) == list(whats)
    assert "-->\n<!-- /eval" not in document.read_text()


@pytest.mark.parametrize("what", ["chart", "picture nothing", "compare atts"])
def test_a_mark_that_cannot_be_filled_is_refused_by_name(
    finished: tuple[Asked, Results], tmp_path: Path, what: str
) -> None:
    document = tmp_path / "doc.md"
    document.write_text(f"<!-- eval run {what} -->\n<!-- /eval -->\n")
    found = written(finished, "atts", "target-only")
    with pytest.raises(BadInput, match=what.split()[0]):
        report.into_document(document, finished[1], found)
