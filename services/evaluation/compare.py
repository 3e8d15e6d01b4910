"""Two policies on the same questions: whether they differ, and whether the data could tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from atts_core.errors import BadInput
from services.evaluation.results import Row
from services.evaluation.statistics import Difference, paired
from services.evaluation.summary import MEASURES, SHARES, by_question

FEW = 30
"""Questions below which a bootstrap's interval is too narrow to be relied on."""
NAMES = {
    "majority": "answers right (majority)",
    "pass_at_1": "chains right (pass@1)",
    "pass_at_m": "a right chain among all (pass@m)",
    "latency": "seconds a question",
    "target_tokens": "target tokens a question",
}


def compare(rows: Sequence[Row], one: str, other: str, seed: int = 0) -> dict[str, Any]:
    """`one` − `other` in every measure, over the questions that both have; `BadInput` if none."""
    labels = dict.fromkeys(row["policy"] for row in rows)
    for label in (one, other):
        if label not in labels:
            raise BadInput(
                f"--compare: {label!r} has no results here; there are: {', '.join(labels)}",
                field="compare",
            )
    measures = {
        name: found
        for name in NAMES
        if (found := _measure(rows, name, one, other, seed)) is not None
    }
    return {
        "one": one,
        "other": other,
        "method": "paired percentile bootstrap over questions, 95 %, seeded",
        "measures": measures,
        "words": [words(name, one, other, found) for name, found in measures.items()],
    }


def _measure(
    rows: Sequence[Row], name: str, one: str, other: str, seed: int
) -> dict[str, Any] | None:
    """One measure of both, over the seeds and questions that both have."""
    mine, theirs = (
        {(row["seed"], row["question"]): row for row in rows if row["policy"] == label}
        for label in (one, other)
    )
    measure = MEASURES[name]
    both = [
        at for at in mine if at in theirs and None not in (measure(mine[at]), measure(theirs[at]))
    ]
    if not both:
        return None
    ours = by_question((mine[at] for at in both), measure)
    others = by_question((theirs[at] for at in both), measure)
    values = list(ours.values()), [others[question] for question in ours]
    found = paired(*values, seed=seed)
    means = sum(values[0]) / len(ours), sum(values[1]) / len(ours)
    return {
        "one": means[0],
        "other": means[1],
        "ratio": means[0] / means[1] if means[1] else None,
        **asdict(found),
        "told": found.told,
    }


def words(name: str, one: str, other: str, found: Mapping[str, Any]) -> str:
    """The finding in a sentence or two."""
    difference = Difference(**{k: found[k] for k in Difference.__slots__})
    shown = _share if name in SHARES else _plain
    low, high = shown(difference.low, sign=True), shown(difference.high, sign=True)
    facts = (
        f"{NAMES[name]}: {one} {shown(found['one'])}, {other} {shown(found['other'])}, difference "
        f"{shown(difference.mean, sign=True)} (95 % interval {low} to {high}, "
        f"p = {difference.p_value:.2g}, {difference.questions} questions)."
    )
    return " ".join([facts, *_verdict(name, one, other, difference, shown(difference.detectable))])


def _verdict(name: str, one: str, other: str, difference: Difference, detectable: str) -> list[str]:
    said = []
    if not difference.differing:
        said.append(
            f"They agree on every question; as many questions bound a difference by {detectable}."
        )
    elif difference.told:
        more = "more" if difference.mean > 0 else "less"
        said.append(f"{one} has {more} than {other}: the interval leaves 0 out.")
    else:
        said.append(
            f"No difference can be told. These questions would show one of {detectable} or more "
            "four times in five; a smaller one they mostly miss."
        )
    if difference.questions < FEW:
        said.append(f"With fewer than {FEW} questions the interval itself is too narrow.")
    return said


def _share(value: float, *, sign: bool = False) -> str:
    return f"{value:+.3f}" if sign else f"{value:.3f}"


def _plain(value: float, *, sign: bool = False) -> str:
    text = f"{abs(value):.3g}" if abs(value) < 1000 else f"{abs(value):,.0f}"
    return f"{'-' if value < 0 else '+' if sign else ''}{text}"
