"""One request seed decides everything drawn: sampling and the gate's coins, by name, not order."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np

Purpose: TypeAlias = Literal["draft", "takeover", "coin", "presample", "peek"]
_PURPOSES: dict[str, int] = {
    "draft": 0,
    "takeover": 1,
    "coin": 2,
    "presample": 3,
    "peek": 4,
}


def fresh_seed() -> int:
    """A seed for a request that named none: 32 bits, so that a person can copy it."""
    return int(np.random.SeedSequence().generate_state(1)[0])


def sampling_seed(seed: int, candidate: int, turn: int, purpose: Purpose) -> int:
    """The seed of one engine request, independent of which candidate came first."""
    return int(_stream(seed, candidate, turn, purpose).generate_state(1, np.uint64)[0] >> 1)


def coin(seed: int, candidate: int, turn: int) -> float:
    """The gate's uniform draw in [0, 1) for one decision."""
    return float(np.random.default_rng(_stream(seed, candidate, turn, "coin")).random())


def _stream(seed: int, candidate: int, turn: int, purpose: Purpose) -> np.random.SeedSequence:
    return np.random.SeedSequence(seed, spawn_key=(candidate, turn, _PURPOSES[purpose]))
