"""Drawing tokens."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from atts_core.engine import Sampling
from services.engines.sampling import Sampler, draws

CPU = torch.device("cpu")


def drawn(rows: list[Sampling], logits: torch.Tensor, uniform: list[float]) -> list[int]:
    ids: list[int] = Sampler(rows, CPU).draw(logits, uniform).tolist()
    return ids


def test_a_rows_token_does_not_depend_on_the_other_rows() -> None:
    torch.manual_seed(0)
    rows = [
        Sampling(0.0),
        Sampling(0.7),
        Sampling(1.3, top_k=3),
        Sampling(1.0, top_p=0.6),
        Sampling(0.9, top_p=0.8, top_k=5),
    ]
    logits = 3 * torch.randn(len(rows), 50)
    for seed in range(50):
        uniform = [draws(seed + i, 1)[0] for i in range(len(rows))]
        together = drawn(rows, logits, uniform)
        alone = [drawn([row], logits[i : i + 1], [uniform[i]])[0] for i, row in enumerate(rows)]
        assert together == alone


def test_tokens_come_as_often_as_their_probability_says() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
    count = 20_000
    tokens = drawn([Sampling(0.5)] * count, logits.expand(count, 4), draws(3, count))
    share = np.bincount(tokens, minlength=4) / count
    wanted = torch.softmax(logits[0] / 0.5, -1).numpy()
    assert (np.abs(share - wanted) < 4 * np.sqrt(wanted / count) + 1e-3).all()


def test_top_k_and_top_p_keep_the_likeliest() -> None:
    logits = torch.log(torch.tensor([[0.1, 0.4, 0.2, 0.3]]))
    uniform = [i / 1000 for i in range(1000)]
    many = logits.expand(1000, 4)
    assert set(drawn([Sampling(1.0, top_k=2)] * 1000, many, uniform)) == {1, 3}
    assert set(drawn([Sampling(1.0, top_p=0.65)] * 1000, many, uniform)) == {1, 3}
    assert set(drawn([Sampling(1.0, top_p=0.75)] * 1000, many, uniform)) == {1, 2, 3}
    assert set(drawn([Sampling(1.0, top_p=0.01)] * 1000, many, uniform)) == {1}


def test_equal_seeds_give_equal_numbers_and_a_longer_request_the_same_first_ones() -> None:
    assert draws(5, 10) == draws(5, 20)[:10]
    assert draws(5, 10) != draws(6, 10)
    assert all(0 <= u < 1 for u in draws(2**70, 1000))


def test_the_largest_draw_never_takes_an_impossible_token() -> None:
    logits = torch.tensor([[0.0, 0.0, -torch.inf]])
    assert drawn([Sampling(1.0)], logits, [1 - 2**-24]) == [1]


@pytest.mark.parametrize("odd", [torch.nan, torch.inf])
@pytest.mark.parametrize("temperatures", [(1.0, 1.0), (0.0, 0.0), (0.0, 1.0), (1.0, 0.0)])
def test_a_row_that_is_not_finite_is_told(odd: float, temperatures: tuple[float, float]) -> None:
    """Drawn or greedy, alone of its kind or not; the other row is none the worse."""
    logits = torch.tensor([[0.0, odd, 0.0], [-torch.inf, -torch.inf, 0.0]])
    assert drawn([Sampling(one) for one in temperatures], logits, [0.5, 0.5]) == [3, 2]


def test_a_greedy_row_without_any_possible_token_is_told() -> None:
    assert drawn([Sampling(0.0)], torch.full((1, 3), -torch.inf), [0.5]) == [3]
