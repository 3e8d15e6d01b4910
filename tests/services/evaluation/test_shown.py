"""Tables, pictures, and what is pasted into documents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from atts_core.errors import BadInput
from services.evaluation import paste, plots
from services.evaluation.summary import summarise
from services.evaluation.table import by_seed, markdown
from tests.services.evaluation.rows import row


def summary(**skipped: str) -> dict[str, Any]:
    rows = [row("a", f"q{n}", right=n < 3) for n in range(4)]
    cut = {"candidate": 1, "answer": None, "ending": "cancelled", "turns": 1, "takeovers": 0}
    rows += [row("b", "q0", chains=[{**cut, "tokens": 0}], undecided=2)]
    return summarise(rows, ["a", "b", *skipped], skipped, 4)


def test_the_tables_name_every_policy_once_a_table_and_skipped_ones_with_the_reason() -> None:
    text = markdown(summary(c="it needs a chat model"))
    assert text.count("\n| a | ") == text.count("\n| b | ") == 3
    assert "| c |" not in text
    assert "- c is not in the tables: it needs a chat model" in text
    assert "- b: 3 questions have not been asked yet" in text
    assert "- b: 2 comparisons of answers came to no verdict" in text
    for table in text.split("\n\n")[:3]:
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_pass_at_1_is_marked_where_chains_were_cancelled() -> None:
    text = markdown(summary())
    shares = {line[2]: line for line in text.splitlines()[2:4]}
    assert "†" not in shares["a"]
    assert shares["b"].count("†") == 2
    assert "the slowest are cancelled first" in text


def test_the_spread_between_seeds_has_a_line_a_seed() -> None:
    rows = [row("a", "q", seed) for seed in (1, 2, 3)]
    lines = by_seed(summarise(rows, ["a"], {}, 3)).splitlines()
    assert [line.split(" | ")[1] for line in lines[2:]] == ["1", "2", "3"]


@pytest.mark.parametrize("labels", [["a", "b"], ["a", "b", "none"]])
def test_all_five_pictures_are_drawn(tmp_path: Path, labels: list[str]) -> None:
    rows = [row(label, f"q{n}") for label in ("a", "b") for n in range(3)]
    drawn = plots.draw(summarise(rows, labels, {}, 3), rows, 0.4, tmp_path)
    assert {path.name for path in drawn} == {
        "accuracy-by-target-tokens.png",
        "accuracy-by-latency.png",
        "latency.png",
        "takeover-rate-by-turn.png",
        "timelines.png",
    }
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)


def test_figures_go_between_a_document_s_marks_and_again_in_their_place(tmp_path: Path) -> None:
    document = tmp_path / "doc.md"
    other = "<!-- eval other table -->\nof another run\n<!-- /eval -->\n"
    document.write_text(
        "before\n<!-- eval mine table -->\nold\n<!-- /eval -->\nmiddle\n"
        f"<!-- eval mine compare a 'b:x=1' -->\n<!-- /eval -->\n{other}after\n"
    )
    for figure in ("one", "another"):
        named = paste.into(
            document, "mine", lambda what, rest, new=figure: f"{new} {what} {rest}\n"
        )
        assert named == ["table", "compare a 'b:x=1'"]
        assert document.read_text() == (
            f"before\n<!-- eval mine table -->\n{figure} table []\n<!-- /eval -->\nmiddle\n"
            f"<!-- eval mine compare a 'b:x=1' -->\n{figure} compare ['a', 'b:x=1']\n"
            f"<!-- /eval -->\n{other}after\n"
        )


def test_a_document_without_marks_of_the_run_is_refused_and_stays(tmp_path: Path) -> None:
    document = tmp_path / "doc.md"
    text = "<!-- eval other table -->\n<!-- /eval -->\n"
    document.write_text(text)
    with pytest.raises(BadInput, match="<!-- eval mine table -->"):
        paste.into(document, "mine", lambda what, rest: "")
    assert document.read_text() == text
