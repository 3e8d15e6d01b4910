"""Traces of known make: questions, candidates and turns with scores of many shapes.

What is true of them is known, so that calibration can be tested where no recorded run helps:
questions of very different difficulty, drift by turn, sudden shifts, ties, heavy tails.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from atts_core.calibration.traces import Trace, TracedCandidate, TracedTurn

Noise = Callable[[np.random.Generator], float]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How scores come about: nll = ln(1 + e^z), z = question + candidate + drift · turn + noise.

    `questions_differ` and `candidates_differ` are standard deviations of the first two, in units
    of the noise; `shift` is added for the later half of the questions; `grain` rounds the nll.
    `goes_on` is the probability that a chain has a further turn.
    """

    noise: Noise = lambda draw: float(draw.standard_normal())
    questions: int = 100
    candidates: int = 16
    turns: int = 15
    goes_on: float = 0.75
    questions_differ: float = 1.0
    candidates_differ: float = 0.3
    drift: float = 0.0
    shift: float = 0.0
    grain: float = 0.0


def _two_humps(draw: np.random.Generator) -> float:
    return 3.0 * (draw.random() < 0.3) + 0.4 * float(draw.standard_normal())


RECIPES: dict[str, Recipe] = {
    "plain": Recipe(),
    "alike": Recipe(questions_differ=0.0, candidates_differ=0.0),
    "unequal": Recipe(questions_differ=3.0),
    "rising": Recipe(drift=0.3),
    "falling": Recipe(drift=-0.3),
    "shifted": Recipe(shift=3.0),
    "grainy": Recipe(grain=0.5),
    "heavy tail": Recipe(noise=lambda draw: float(draw.standard_t(2))),
    "two humps": Recipe(noise=_two_humps),
    "few candidates": Recipe(candidates=4, questions=300),
    "many candidates": Recipe(candidates=64, questions=30),
}


def synthetic(recipe: Recipe, seed: int) -> Trace:
    """A trace made by `recipe`; equal seeds make equal traces."""
    draw = np.random.default_rng(seed)
    chains = []
    for question in range(recipe.questions):
        hardness = recipe.questions_differ * draw.standard_normal()
        if question >= recipe.questions / 2:
            hardness += recipe.shift
        for candidate in range(recipe.candidates):
            own = hardness + recipe.candidates_differ * draw.standard_normal()
            turns = [_turn(recipe, draw, own, 0)]
            while len(turns) < recipe.turns and draw.random() < recipe.goes_on:
                turns.append(_turn(recipe, draw, own, len(turns)))
            chains.append(TracedCandidate(str(question), candidate, None, 0.0, tuple(turns)))
    return Trace(tuple(chains), cut=False)


def _turn(recipe: Recipe, draw: np.random.Generator, own: float, turn: int) -> TracedTurn:
    nll = float(np.logaddexp(0.0, own + recipe.drift * turn + recipe.noise(draw)))
    if recipe.grain:
        nll = round(nll / recipe.grain) * recipe.grain
    # A perplexity is a number a file can hold; beyond e^500 nothing is left to tell apart.
    return TracedTurn(turn, "", float(np.exp(min(nll, 500.0))), None)
