"""Conformal p-values: how implausible a segment is among the scores of its bank."""

from __future__ import annotations


def p_value(higher: float, equal: float, total: float) -> float:
    """The paper's: (1 + #{s ≤ s_j}) / (N + 1), high for a poor segment (arXiv 2509.15148, §3)."""
    return (1 + higher + equal) / (total + 1)


def p_smoothed(higher: float, equal: float, total: float, coin: float) -> float:
    """(#{s_j > s} + U·(1 + #{s_j = s})) / (N + 1), uniform at every N under exchangeability.

    `coin` is U, uniform on [0, 1). With an empty bank this is the coin itself
    (Vovk, Gammerman & Shafer, "Algorithmic learning in a random world", 2005, §2.3).
    """
    return (higher + coin * (1 + equal)) / (total + 1)
