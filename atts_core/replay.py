"""Decide a recorded run again, without models, through the very gate that serves."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from time import perf_counter
from typing import Any, Literal

from atts_core.acceptance import Gate
from atts_core.calibration.keys import Batch, PairKey, Record
from atts_core.calibration.selectivity import auroc, overlap
from atts_core.calibration.settings import CalibrationSettings
from atts_core.calibration.traces import Trace
from atts_core.scoring import DEFINITION
from atts_core.types import Score

Order = Literal["question", "interleaved"]

WINDOW = 200
TURN_MIN = 100
QUESTION_MIN = 48
FIRST = 100
"""Decisions in a window, those a turn or question needs to be judged, those that come first."""


@dataclass(frozen=True, slots=True)
class Step:
    """A recorded segment that was scored; lengths are characters, `target` None: no takeover."""

    question: str
    turn: int
    score: Score
    draft: int
    target: int | None


def arrival(trace: Trace, order: Order, seed: int) -> list[Step]:
    """The trace's scored segments in the order in which the gate shall see them.

    `question`: one question after the other, each turn by turn. `interleaved`: all questions at
    once, turn by turn. The segments of one turn arrive in random order, drawn from `seed`.
    """
    asked: dict[str, int] = {}
    for chain in trace.candidates:
        asked.setdefault(chain.question_id, len(asked))
    steps = [
        Step(
            question=chain.question_id,
            turn=turn.turn,
            score=Score(nll_sum=math.log(turn.ppl), tokens=1),
            draft=len(turn.draft),
            target=None if turn.target is None else len(turn.target),
        )
        for chain in trace.candidates
        for turn in chain.turns
        if turn.ppl is not None
    ]
    random.Random(seed).shuffle(steps)
    if order == "question":
        steps.sort(key=lambda step: (asked[step.question], step.turn))
    else:
        steps.sort(key=lambda step: step.turn)
    return steps


def replay(
    steps: Sequence[Step],
    *,
    rate: float,
    settings: CalibrationSettings,
    calibration: Sequence[float] = (),
    seed: int = 0,
) -> tuple[list[bool], float]:
    """Was each step taken over, and the seconds all decisions took together.

    `calibration` holds conformity scores of first segments that came before: the fixed bank of
    `published`, a warm start for every other coverage.
    """
    gate = Gate(PairKey("recorded", "recorded", "recorded", DEFINITION), settings)
    if settings.coverage == "published":
        gate.fix(calibration)
    else:
        before = (Record("before", i, 0, score) for i, score in enumerate(calibration, start=1))
        gate.merge(Batch(gate.pair, tuple(before)))
    draw = random.Random(seed + 1).random
    last = {step.question: i for i, step in enumerate(steps)}
    taken = []
    began = perf_counter()
    for i, step in enumerate(steps):
        question = step.question
        decision = gate.decide(
            step.score, question=question, turn=step.turn, coin=draw(), rate=rate
        )
        taken.append(decision.taken_over)
        if last[question] == i:
            gate.forget(question)
    return taken, perf_counter() - began


def report(steps: Sequence[Step], taken: Sequence[bool], rate: float) -> dict[str, Any]:
    """Rates, overall and by turn, question and window, and selectivity, of replayed decisions.

    A deviation is of a realised rate from `rate`; a figure is None where the trace is too short.
    """
    turns: dict[int, list[bool]] = defaultdict(list)
    questions: dict[str, list[bool]] = defaultdict(list)
    groups: dict[tuple[str, int], list[tuple[float, bool]]] = defaultdict(list)
    for step, over in zip(steps, taken, strict=True):
        turns[step.turn].append(over)
        questions[step.question].append(over)
        groups[step.question, step.turn].append((step.score.nll, over))
    n = len(taken)
    windows = [taken[i : i + WINDOW] for i in range(0, n - WINDOW + 1, WINDOW)]
    sums = [0, *accumulate(taken)]
    sliding = ((b - a) / WINDOW for a, b in zip(sums, sums[WINDOW:], strict=False))
    return {
        "decisions": n,
        "overall": _mean(taken),
        "turn_max_abs_deviation": _worst(
            (_mean(t) for t in turns.values() if len(t) >= TURN_MIN), rate
        ),
        "question_max_abs_deviation": _worst(
            (_mean(q) for q in questions.values() if len(q) >= QUESTION_MIN), rate
        ),
        "window_max_abs_deviation": _worst((_mean(w) for w in windows), rate),
        "sliding_window_max_abs_deviation": _worst(sliding, rate),
        "first_100": _mean(taken[:FIRST]),
        "overlap": overlap(list(groups.values()), rate),
        "auroc": auroc(list(groups.values())),
        "target_character_share": _target_share(steps, taken),
        "by_turn": [
            {"turn": t, "n": len(turns[t]), "rate": _mean(turns[t])} for t in sorted(turns)
        ],
        "by_question": [
            {"question_id": q, "n": len(over), "rate": _mean(over)} for q, over in questions.items()
        ],
        "by_window": [
            {"from": i * WINDOW, "n": WINDOW, "rate": _mean(w)} for i, w in enumerate(windows)
        ],
    }


def _mean(taken: Sequence[bool]) -> float:
    return sum(taken) / len(taken)


def _worst(rates: Iterable[float], rate: float) -> float | None:
    return max((abs(realised - rate) for realised in rates), default=None)


def _target_share(steps: Sequence[Step], taken: Sequence[bool]) -> float | None:
    """The target's share of characters; a takeover that was not recorded has the mean length."""
    recorded = [step.target for step in steps if step.target is not None]
    if not recorded:
        return None
    mean = sum(recorded) / len(recorded)
    draft = sum(step.draft for step in steps)
    target = sum(
        mean if step.target is None else step.target
        for step, over in zip(steps, taken, strict=True)
        if over
    )
    return target / (draft + target) if draft + target else None
