"""Intervals and differences over questions, which are what was sampled.

Several seeds of one question are no independent observations: each question counts once, with the
mean of its seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Z95 = 1.959964
"""Of a two-sided interval of 95 %."""
Z80 = 0.841621
"""Of a power of 80 %."""
RESAMPLES = 10_000

Values = Sequence[float] | npt.NDArray[np.float64]


def wilson(values: Values) -> tuple[float, float]:
    """95 % interval of the mean of values in [0, 1], one a question.

    Wilson's interval with the effective sample size n·p(1−p)/s², which is n for values of 0 and 1
    alone (Franco et al., "Comparative study of confidence intervals for proportions in complex
    sample surveys", 2019). NaN where there is no value.
    """
    found = np.asarray(values, dtype=float)
    if not found.size:
        return math.nan, math.nan
    p, n = float(found.mean()), found.size
    spread = float(found.var())
    # At least n: within 0 and 1 no values vary more than zeros and ones do.
    effective = n * p * (1 - p) / spread if spread > 1e-12 else n
    middle = (p + Z95**2 / (2 * effective)) / (1 + Z95**2 / effective)
    half = (
        Z95
        * math.sqrt(p * (1 - p) / effective + Z95**2 / (4 * effective**2))
        / (1 + Z95**2 / effective)
    )
    return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True, slots=True)
class Difference:
    """The mean of paired differences, one a question, and what the data can say about it.

    `p_value` is two-sided; `detectable` is the smallest true difference that as many questions,
    differing as much, would tell from 0 in 80 % of such evaluations.
    """

    mean: float
    low: float
    high: float
    p_value: float
    detectable: float
    questions: int
    differing: int

    @property
    def told(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0


def paired(one: Values, other: Values, seed: int = 0, resamples: int = RESAMPLES) -> Difference:
    """`one` − `other`, the values of the same questions: percentile bootstrap over questions.

    The p-value is twice the share of resampled means beyond 0 (Efron & Tibshirani, "An Introduction
    to the Bootstrap", 1993, ch. 13 and 15). Where no question differs, the interval is the one that
    as many questions without a difference allow: ± 3 / n ("rule of three").
    """
    gaps = np.asarray(one, dtype=float) - np.asarray(other, dtype=float)
    n = gaps.size
    differing = int(np.count_nonzero(gaps))
    if not differing:
        bound = min(1.0, 3 / n)
        return Difference(0.0, -bound, bound, 1.0, bound, n, 0)
    rng = np.random.default_rng(seed)
    means = np.concatenate(
        [
            gaps[rng.integers(0, n, size=(part, n))].mean(axis=1)
            for part in _parts(resamples, max(1, 2_000_000 // n))
        ]
    )
    low, high = np.quantile(means, [0.025, 0.975])
    beyond = min(np.count_nonzero(means <= 0), np.count_nonzero(means >= 0))
    p_value = min(1.0, 2 * (beyond + 1) / (resamples + 1))
    spread = float(gaps.std(ddof=1)) if n > 1 else math.inf
    detectable = (Z95 + Z80) * spread / math.sqrt(n)
    return Difference(
        float(gaps.mean()), float(low), float(high), p_value, detectable, n, differing
    )


def _parts(total: int, most: int) -> list[int]:
    """`total` in parts of at most `most`: resamples that fit the memory."""
    return [min(most, total - begin) for begin in range(0, total, most)]


def quantile(values: Values, q: float) -> float:
    """NaN where there is no value."""
    return float(np.quantile(np.asarray(values), q)) if len(values) else math.nan
