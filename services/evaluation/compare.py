"""Two policies on the same questions: whether they differ, and whether the data could tell.

Answers are compared by their difference, seconds and tokens by their ratio as well: one policy is
so many times as fast, or takes so large a part of the tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from atts_core.errors import BadInput
from services.evaluation.results import Key, Row
from services.evaluation.statistics import Difference, Statistic, mean_of, p95_of, paired, ratio
from services.evaluation.summary import MEASURES, SHARES, Measure, by_question, set_seconds

FEW = 30
"""Questions below which a bootstrap's interval is too narrow to be relied on."""
NAMES = {
    "majority": "answers right (majority)",
    "pass_at_1": "chains right (pass@1)",
    "pass_at_m": "a right chain among all (pass@m)",
    "latency": "seconds a question, mean",
    "latency_p95": "seconds a question, p95",
    "seconds": "seconds of the set",
    "target_tokens": "tokens written by the target",
}
RATIOS: Mapping[str, tuple[str, Statistic]] = {
    "latency": ("latency", mean_of),
    "latency_p95": ("latency", p95_of),
    "target_tokens": ("target_tokens", mean_of),
}
"""Of what a question's values are, and what is taken of all of them."""
METHOD = (
    "paired percentile bootstrap over questions, 95 %, seeded; of the seconds of the set, the "
    "lowest and the highest of the seeds"
)

Pair = tuple[list[Row], list[Row]]
"""The rows of the one and of the other for the same seeds and questions, in the same order."""


def compare(rows: Sequence[Row], one: str, other: str, seed: int = 0) -> dict[str, Any]:
    """`one` against `other` in every measure, over the questions that both have.

    Raises `BadInput` for a policy that has no results.
    """
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
        if (found := _compared(rows, name, one, other, seed)) is not None
    }
    return {
        "one": one,
        "other": other,
        "method": METHOD,
        "measures": measures,
        "words": [words(name, one, other, found) for name, found in measures.items()],
    }


def _compared(
    rows: Sequence[Row], name: str, one: str, other: str, seed: int
) -> dict[str, Any] | None:
    if name == "seconds":
        return _of_the_set(*_both(rows, one, other, lambda row: True))
    if name not in RATIOS:
        measure = MEASURES[name]
        return _share_of_questions(*_both(rows, one, other, lambda r: measure(r) is not None),
                                   measure, seed)  # fmt: skip
    of, statistic = RATIOS[name]
    measure = MEASURES[of]
    both = _both(rows, one, other, lambda row: measure(row) is not None)
    if not both[0]:
        return None
    found = _ratio(*both, measure, statistic, seed)
    if statistic is not mean_of:
        return found
    return _difference(*both, measure, seed, shares=False) | (found or {"ratio": None})


def _both(rows: Sequence[Row], one: str, other: str, counts: Callable[[Row], bool]) -> Pair:
    """The rows that count, over the seeds and questions that both have."""
    mine, theirs = (
        {_at(row): row for row in rows if row["policy"] == label and counts(row)}
        for label in (one, other)
    )
    both = [at for at in mine if at in theirs]
    return [mine[at] for at in both], [theirs[at] for at in both]


def _at(row: Row) -> Key:
    return "", row["seed"], row["question"]


def _share_of_questions(
    mine: Sequence[Row], theirs: Sequence[Row], measure: Measure, seed: int
) -> dict[str, Any] | None:
    if not mine:
        return None
    found = _difference(mine, theirs, measure, seed, shares=True)
    return {**found, "ratio": found["one"] / found["other"] if found["other"] else None}


def _difference(
    mine: Sequence[Row], theirs: Sequence[Row], measure: Measure, seed: int, *, shares: bool
) -> dict[str, Any]:
    ours, others = by_question(mine, measure), by_question(theirs, measure)
    values = list(ours.values()), [others[question] for question in ours]
    found = paired(*values, seed=seed, shares=shares)
    return {
        "one": sum(values[0]) / len(ours),
        "other": sum(values[1]) / len(ours),
        **asdict(found),
        "told": found.told,
    }


def _ratio(
    mine: Sequence[Row], theirs: Sequence[Row], measure: Measure, statistic: Statistic, seed: int
) -> dict[str, Any] | None:
    """The ratio with its interval; None where there is none."""
    found = ratio(_values(mine, measure), _values(theirs, measure), statistic, seed=seed)
    if found is None:
        return None
    return {
        "one": found.one,
        "other": found.other,
        "ratio": found.ratio,
        "ratio_interval": [found.low, found.high],
        "told": found.low > 1 or found.high < 1,
        "questions": found.questions,
    }


def _values(rows: Sequence[Row], measure: Measure) -> list[list[float]]:
    """Each question's values, one a seed."""
    found: dict[str, list[float]] = {}
    for row in rows:
        value = measure(row)
        assert value is not None  # such rows have been left out
        found.setdefault(row["question"], []).append(value)
    return list(found.values())


def _of_the_set(mine: Sequence[Row], theirs: Sequence[Row]) -> dict[str, Any] | None:
    """Seconds of the whole set, and their ratio seed by seed: a seed has one set."""
    seeds = sorted({row["seed"] for row in mine})
    pairs = [
        tuple(set_seconds([row for row in rows if row["seed"] == seed]) for rows in (mine, theirs))
        for seed in seeds
    ]
    if not pairs or not all(seconds > 0 for pair in pairs for seconds in pair):
        return None
    one, other = (sum(part) / len(seeds) for part in zip(*pairs, strict=True))
    ratios = [ours / others for ours, others in pairs]
    return {
        "one": one,
        "other": other,
        "ratio": one / other,
        "ratio_by_seed": dict(zip(map(str, seeds), ratios, strict=True)),
        "ratio_interval": [min(ratios), max(ratios)],
        "seeds": len(seeds),
        "questions": len({row["question"] for row in mine}),
    }


def words(name: str, one: str, other: str, found: Mapping[str, Any]) -> str:
    """The finding in a sentence or two."""
    said = [_as_ratio(name, one, other, found) if "ratio_interval" in found else
            _as_difference(name, one, other, found)]  # fmt: skip
    if name in SHARES:
        said += _verdict(one, other, found)
    if found["questions"] < FEW and name != "seconds":
        said.append(f"With fewer than {FEW} questions the interval itself is too narrow.")
    return " ".join(said)


def _as_ratio(name: str, one: str, other: str, found: Mapping[str, Any]) -> str:
    """Both ways: whoever sets a limit thinks of one of them."""
    low, high = found["ratio_interval"]
    ways = [(f"{one} / {other}", found["ratio"], low, high)]
    if low > 0:
        ways.append((f"{other} / {one}", 1 / found["ratio"], 1 / high, 1 / low))
    if name != "seconds":
        told = ["{} = {:.2f} (95 % interval {:.2f} to {:.2f})".format(*way) for way in ways]
    elif found["seeds"] > 1:
        told = ["{} = {:.2f} (by seed {:.2f} to {:.2f})".format(*way) for way in ways]
    else:
        told = [f"{way} = {value:.2f} (one seed: no spread)" for way, value, _, _ in ways]
    each = {"seconds": " a seed", "target_tokens": " a question"}.get(name, "")
    return (
        f"{NAMES[name]}: {one} {_plain(found['one'])}, {other} {_plain(found['other'])}{each}; "
        f"{', '.join(told)}."
    )


def _as_difference(name: str, one: str, other: str, found: Mapping[str, Any]) -> str:
    low, high = f"{found['low']:+.3f}", f"{found['high']:+.3f}"
    return (
        f"{NAMES[name]}: {one} {found['one']:.3f}, {other} {found['other']:.3f}, difference "
        f"{found['mean']:+.3f} (95 % interval {low} to {high}, p = {found['p_value']:.2g}, "
        f"{found['questions']} questions)."
    )


def _verdict(one: str, other: str, found: Mapping[str, Any]) -> list[str]:
    difference = Difference(**{k: found[k] for k in Difference.__slots__})
    detectable = difference.detectable
    if not difference.differing:
        return [
            "They agree on every question; as many questions bound a difference by "
            f"{detectable:.3f}."
        ]
    if difference.questions == 1:
        return ["One question says nothing of others."]
    if difference.told:
        more = "more" if difference.mean > 0 else "less"
        return [f"{one} has {more} than {other}: the interval leaves 0 out."]
    return [
        f"No difference can be told. These questions would show one of {detectable:.3f} or more "
        "four times in five; a smaller one they mostly miss."
    ]


def _plain(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
