import pytest

from models.arithmetic.figures import Share, auroc


def test_auroc_is_the_share_of_pairs_in_order_with_ties_as_halves():
    assert auroc([2.0, 3.0], [0.0, 1.0]) == 1.0
    assert auroc([0.0], [1.0, 2.0]) == 0.0
    assert auroc([1.0, 1.0], [1.0]) == 0.5
    assert auroc([1.0, 3.0], [0.0, 2.0]) == pytest.approx(0.75)


def test_a_share_carries_its_wilson_interval():
    low, high = Share(45, 50).interval
    assert (low, high) == (pytest.approx(0.786, abs=1e-3), pytest.approx(0.957, abs=1e-3))
    assert str(Share(45, 50)) == "0.900 (0.786 to 0.957; 45 of 50)"
