"""Which two models work together: the identity that every calibration score carries."""

from __future__ import annotations

from atts_core.calibration.keys import PairKey
from atts_core.engine import Engine
from atts_core.scoring import DEFINITION


def pair_of(draft: Engine, target: Engine) -> PairKey:
    """Both models by name and vocabulary, the target's template, and what a score is."""
    one, other = draft.capabilities, target.capabilities
    return PairKey(
        draft=f"{one.model}@{one.vocabulary}",
        target=f"{other.model}@{other.vocabulary}",
        template=other.template,
        score=DEFINITION,
    )
