"""Intervals and differences over questions, which are what was sampled.

Several seeds of one question are no independent observations: each question counts once, with the
mean of its seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

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
    differing as much, would tell from 0 in 80 % of such evaluations; None where the data do not
    say: of one question, and of values without a bound that agree everywhere.
    """

    mean: float
    low: float
    high: float
    p_value: float
    detectable: float | None
    questions: int
    differing: int

    @property
    def told(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0


def paired(
    one: Values,
    other: Values,
    seed: int = 0,
    resamples: int = RESAMPLES,
    *,
    shares: bool = True,
) -> Difference:
    """`one` − `other`, the values of the same questions: percentile bootstrap over questions.

    The p-value is twice the share of resampled means beyond 0 (Efron & Tibshirani, "An Introduction
    to the Bootstrap", 1993, ch. 13 and 15). Where no question differs, the interval of `shares`
    (values in [0, 1]) is the one that as many questions without a difference allow: ± 3 / n ("rule
    of three"); of other values it says nothing, and is 0 to 0.
    """
    gaps = np.asarray(one, dtype=float) - np.asarray(other, dtype=float)
    n = gaps.size
    differing = int(np.count_nonzero(gaps))
    if not differing:
        bound = min(1.0, 3 / n) if shares else 0.0
        return Difference(0.0, -bound, bound, 1.0, bound if shares else None, n, 0)
    means = np.concatenate([gaps[drawn].mean(axis=1) for drawn in _draws(n, n, seed, resamples)])
    low, high = np.quantile(means, [0.025, 0.975])
    beyond = min(np.count_nonzero(means <= 0), np.count_nonzero(means >= 0))
    p_value = min(1.0, 2 * (beyond + 1) / (resamples + 1))
    detectable = (Z95 + Z80) * float(gaps.std(ddof=1)) / math.sqrt(n) if n > 1 else None
    return Difference(
        float(gaps.mean()), float(low), float(high), p_value, detectable, n, differing
    )


Statistic: TypeAlias = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]
"""One number of each row of values."""


def mean_of(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The mean of each row."""
    return np.asarray(values.mean(axis=-1))


def p95_of(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The 95th percentile of each row."""
    return np.asarray(np.quantile(values, 0.95, axis=-1))


@dataclass(frozen=True, slots=True)
class Ratio:
    """A statistic of one over that of the other, with its 95 % interval."""

    one: float
    other: float
    ratio: float
    low: float
    high: float
    questions: int


def ratio(
    one: Sequence[Sequence[float]],
    other: Sequence[Sequence[float]],
    statistic: Statistic,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Ratio | None:
    """A statistic of `one` over that of `other`, of all values: paired percentile bootstrap.

    A row is a question's values, one a seed: questions are resampled, with all of their seeds, and
    are the same ones for both. The percentile interval of a ratio of quantiles is that of Efron &
    Tibshirani, 1993, ch. 13. Where questions have different numbers of values, each counts with the
    mean of its own. None where `other` is 0, in a resample too: there is no ratio.
    """
    ragged = len({len(row) for row in [*one, *other]}) > 1
    mine, theirs = (
        np.asarray([[sum(row) / len(row)] for row in rows] if ragged else rows, dtype=float)
        for rows in (one, other)
    )
    resampled = [
        (statistic(_pooled(mine, drawn)), statistic(_pooled(theirs, drawn)))
        for drawn in _draws(len(mine), mine.size, seed, resamples)
    ]
    numerators, denominators = (np.concatenate(part) for part in zip(*resampled, strict=True))
    if denominators.min() <= 0 or statistic(theirs.ravel()) <= 0:
        return None
    low, high = np.quantile(numerators / denominators, [0.025, 0.975])
    above, below = float(statistic(mine.ravel())), float(statistic(theirs.ravel()))
    return Ratio(above, below, above / below, float(low), float(high), len(mine))


def _pooled(
    values: npt.NDArray[np.float64], drawn: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """All values of the drawn questions, a row a resample."""
    return values[drawn].reshape(len(drawn), -1)


def _draws(n: int, size: int, seed: int, resamples: int) -> Iterator[npt.NDArray[np.int64]]:
    """Resamples of `n` questions, as many at a time as fit the memory with `size` values each."""
    rng, most = np.random.default_rng(seed), max(1, 2_000_000 // size)
    for begin in range(0, resamples, most):
        yield rng.integers(0, n, size=(min(most, resamples - begin), n))


def quantile(values: Values, q: float) -> float:
    """NaN where there is no value."""
    return float(np.quantile(np.asarray(values), q)) if len(values) else math.nan
