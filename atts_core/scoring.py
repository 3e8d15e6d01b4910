"""From the target's log-probabilities to a segment's score: the one definition there is.

Source: arXiv 2509.15148, section 3: nll = −(1/N) Σ log p_target(y_i | x, history, y_<i) over the
segment's N target tokens, natural logarithm; the conformity score is −nll. It is not normalised
over candidates, so it depends on no other chain.
"""

from __future__ import annotations

import numpy as np

from atts_core.errors import ScoreMissing
from atts_core.types import Score, Scored

DEFINITION = "mean-nll/1"
"""Part of a calibration bank's key: scores of another definition never mix with these."""


def score_of(scored: Scored) -> Score:
    """The segment's score; `ScoreMissing` where it has no tokens or a value that is no number."""
    if len(scored.logprobs) == 0 or not np.isfinite(scored.logprobs).all():
        raise ScoreMissing("a segment without finite log-probabilities has no score")
    return Score(
        nll_sum=-float(np.sum(scored.logprobs, dtype=np.float64)),
        tokens=len(scored.logprobs),
    )
