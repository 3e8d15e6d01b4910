"""From a score to a decision: accept the draft's segment, or let the target take over."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Decision:
    """One segment's verdict and everything it rests on.

    `p_value` is the paper's; `p_smoothed`, drawn with `coin`, is the one compared with
    `threshold`: the segment is taken over when it is larger. `bank` names the scores it was
    ranked among, `bank_size` how many there were, `cold` whether these were too few to say much.
    """

    taken_over: bool
    p_value: float
    p_smoothed: float
    threshold: float
    coin: float
    coverage: str
    bank: str
    bank_size: int
    cold: bool
