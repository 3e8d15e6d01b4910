"""From rows to figures: what each policy got right, how long it took, and what it cost.

All tokens and seconds are sums over the questions of all seeds. Shares count each question once,
with the mean of its seeds; a question that failed counts as wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from services.evaluation.account import length
from services.evaluation.profile import profile
from services.evaluation.results import Row
from services.evaluation.statistics import quantile, wilson

Figures = dict[str, Any]
Measure = Callable[[Row], float | None]


def majority(row: Row) -> float:
    """Whether the policy's own answer, most often a vote, is right."""
    return float(row["right"])


def pass_at_1(row: Row) -> float | None:
    """Share of right chains among those that ended by themselves; None where all were cut short."""
    if row["chains_ended"]:
        return float(row["chains_right"] / row["chains_ended"])
    return 0.0 if row["error"] is not None else None


def pass_at_m(row: Row) -> float:
    """Whether any chain that ended by itself is right."""
    return float(row["chains_right"] > 0)


MEASURES: Mapping[str, Measure] = {
    "pass_at_1": pass_at_1,
    "majority": majority,
    "pass_at_m": pass_at_m,
    "latency": lambda row: row["latency"] if row["error"] is None else None,
    "target_tokens": lambda row: row["tokens"] and float(row["tokens"]["target"]["generated"]),
}
"""What is measured of one question with one seed."""
SHARES = ("pass_at_1", "majority", "pass_at_m")


def summarise(
    rows: Iterable[Row], labels: Sequence[str], skipped: Mapping[str, str], expected: int
) -> dict[str, Figures]:
    """Figures of each policy in the order of `labels`; of one that cannot be served, why not.

    `expected` is how many rows a policy has when all its questions have been asked.
    """
    found = list(rows)
    return {
        label: {"skipped": skipped[label]}
        if label in skipped
        else figures([row for row in found if row["policy"] == label], expected)
        for label in labels
    }


def by_question(rows: Iterable[Row], measure: Measure) -> dict[str, float]:
    """Each question's value: the mean over its seeds, where it has one."""
    values: dict[str, list[float]] = {}
    for row in rows:
        value = measure(row)
        if value is not None:
            values.setdefault(row["question"], []).append(value)
    return {question: sum(found) / len(found) for question, found in values.items()}


def figures(rows: Sequence[Row], expected: int) -> Figures:
    """One policy's figures."""
    answered = [row for row in rows if row["error"] is None]
    latencies = [row["latency"] for row in answered]
    shares: Figures = {}
    for name in SHARES:
        values = list(by_question(rows, MEASURES[name]).values())
        shares[name] = _mean(values)
        shares[f"{name}_interval"] = _finite(wilson(values))
    endings: dict[str, int] = {}
    for chain in (chain for row in rows for chain in row["chains"]):
        endings[chain["ending"]] = endings.get(chain["ending"], 0) + 1
    return {
        **shares,
        "interval": "Wilson, 95 %, over questions",
        "latency_p50": _number(quantile(latencies, 0.5)),
        "latency_p95": _number(quantile(latencies, 0.95)),
        "seconds": set_seconds(rows),
        **_tokens(answered),
        **_engines(rows),
        **profile(rows, set_seconds(rows)),
        "wasted_tokens": sum(row["wasted_tokens"] for row in rows),
        **_rate(rows),
        "questions": len({row["question"] for row in rows}),
        "seeds": len({row["seed"] for row in rows}),
        "unasked": expected - len(rows),
        "answered": len(answered),
        "failed": len(rows) - len(answered),
        "undecided": sum(row["undecided"] for row in rows),
        "endings": endings,
        "by_seed": _by_seed(rows),
    }


def set_seconds(rows: Iterable[Row]) -> float:
    """Wall-clock seconds in which questions were in flight, on each session's own clock."""
    return sum(
        length([(row["began"], row["began"] + row["latency"]) for row in of_session])
        for of_session in _sessions(rows)
    )


def _sessions(rows: Iterable[Row]) -> list[list[Row]]:
    """Rows by the process that asked: clocks of two processes are not the same."""
    sessions: dict[str, list[Row]] = {}
    for row in rows:
        sessions.setdefault(row["session"], []).append(row)
    return list(sessions.values())


def _tokens(rows: Sequence[Row]) -> Figures:
    def total(model: str, what: str) -> int:
        return sum(row["tokens"][model][what] for row in rows)

    draft, target = total("draft", "generated"), total("target", "generated")
    return {
        "draft_tokens": draft,
        "target_tokens": target,
        "target_token_share": target / (draft + target) if draft + target else None,
        "draft_scored_tokens": total("draft", "scored"),
        "target_scored_tokens": total("target", "scored"),
    }


def _engines(rows: Sequence[Row]) -> Figures:
    """Engine-seconds by model, and the asynchronous arithmetic intensity."""
    seconds = {"draft": 0.0, "target": 0.0}
    for of_session in _sessions(rows):
        spans: dict[str, list[tuple[float, float]]] = {}
        for row in of_session:
            for place, busy in row["busy"].items():
                spans.setdefault(place, []).extend((a, b) for a, b in busy)
        for place, all_spans in spans.items():
            seconds[place.split("/")[0]] += length(all_spans)

    def total(what: str) -> float:
        return float(sum(row["request_seconds"][what] for row in rows))

    compute = total("draft") + total("target")
    memory, waiting = compute - total("scoring"), total("waiting")
    return {
        "draft_engine_seconds": seconds["draft"],
        "target_engine_seconds": seconds["target"],
        "waiting_seconds": waiting,
        "arithmetic_intensity": compute / (memory + waiting) if memory + waiting else None,
    }


def _rate(rows: Sequence[Row]) -> Figures:
    turns: dict[int, list[int]] = {}
    for row in rows:
        for turn, (decided, rejected) in row["by_turn"].items():
            counted = turns.setdefault(int(turn), [0, 0])
            counted[0] += decided
            counted[1] += rejected
    decisions = sum(row["decisions"] for row in rows)
    return {
        "realised_takeover_rate": sum(row["rejected"] for row in rows) / decisions
        if decisions
        else None,
        "decisions": decisions,
        "takeovers": sum(chain["takeovers"] for row in rows for chain in row["chains"]),
        "takeover_rate_by_turn": [
            {"turn": turn, "decisions": decided, "rate": rejected / decided}
            for turn, (decided, rejected) in sorted(turns.items())
        ],
    }


def _by_seed(rows: Sequence[Row]) -> list[Figures]:
    """The spread between seeds."""
    found = []
    for seed in dict.fromkeys(row["seed"] for row in rows):
        mine = [row for row in rows if row["seed"] == seed]
        latencies = [row["latency"] for row in mine if row["error"] is None]
        found.append(
            {
                "seed": seed,
                **{
                    name: _mean(list(by_question(mine, MEASURES[name]).values())) for name in SHARES
                },
                "latency_p50": _number(quantile(latencies, 0.5)),
                "latency_p95": _number(quantile(latencies, 0.95)),
                "seconds": set_seconds(mine),
                **profile(mine, set_seconds(mine)),
            }
        )
    return sorted(found, key=lambda one: one["seed"])


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return None if math.isnan(value) else value


def _finite(interval: tuple[float, float]) -> list[float] | None:
    return None if math.isnan(interval[0]) else list(interval)
