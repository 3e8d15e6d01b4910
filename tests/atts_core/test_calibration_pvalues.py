"""p-values against an independent implementation, and at their edges."""

from __future__ import annotations

import numpy as np
import pytest

from atts_core.calibration.bank import Bank
from atts_core.calibration.pvalues import p_smoothed, p_value


def test_p_values_agree_with_crepes() -> None:
    crepes = pytest.importorskip("crepes")
    draw = np.random.default_rng(1)
    bank_scores = np.round(draw.normal(size=300), 1)
    asked = np.round(draw.normal(size=200), 1)
    bank = Bank(1000)
    for score in bank_scores.tolist():
        bank.add(score)
    classifier = crepes.ConformalClassifier().fit(bank_scores, seed=7)
    coins = np.random.RandomState(7).rand(len(asked))
    ranks = [bank.counts(score) for score in asked.tolist()]
    ours = [p_value(higher, equal, len(bank)) for higher, equal in ranks]
    smoothed = [
        p_smoothed(higher, equal, len(bank), coin)
        for (higher, equal), coin in zip(ranks, coins.tolist(), strict=True)
    ]
    assert ours == pytest.approx(classifier.predict_p(asked, smoothing=False))
    assert smoothed == pytest.approx(classifier.predict_p(asked, smoothing=True))


def test_with_an_empty_bank_the_smoothed_p_value_is_the_coin() -> None:
    assert p_smoothed(0, 0, 0, 0.37) == 0.37
    assert p_value(0, 0, 0) == 1.0


def test_the_papers_p_value_is_the_smoothed_one_with_coin_one() -> None:
    assert p_value(3, 2, 9) == p_smoothed(3, 2, 9, 1.0) == 0.6


def test_a_worse_segment_has_a_higher_p_value() -> None:
    assert p_value(9, 0, 10) > p_value(1, 0, 10)
