import numpy as np
import pytest

from atts_core.errors import ScoreMissing
from atts_core.scoring import score_of
from atts_core.types import EngineCost, Scored, as_ids


def scored(*logprobs: float) -> Scored:
    return Scored(
        as_ids(list(range(len(logprobs)))),
        np.array(logprobs, dtype=np.float32),
        as_ids([]),
        EngineCost(),
    )


def test_the_score_is_the_mean_negative_log_likelihood_in_nats() -> None:
    score = score_of(scored(-1.0, -2.0, -6.0))
    assert (score.nll, score.tokens, score.conformity) == (3.0, 3, -3.0)
    assert score.ppl == pytest.approx(np.exp(3.0))


@pytest.mark.parametrize("logprobs", [(), (float("nan"),), (-1.0, float("-inf"))])
def test_no_score_is_no_guess(logprobs: tuple[float, ...]) -> None:
    with pytest.raises(ScoreMissing):
        score_of(scored(*logprobs))
