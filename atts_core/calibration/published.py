"""The published calibration files: arrays of perplexities in NumPy's `.npy` format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from atts_core.errors import BadInput


def read_perplexities(path: Path) -> npt.NDArray[np.float64]:
    """Perplexities in `path`, one dimension, finite and above 0.

    A pickled array is refused: reading it could run code.
    """
    try:
        with path.open("rb") as file:
            found = np.lib.format.read_array(file, allow_pickle=False)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, EOFError) as error:
        raise BadInput(f"{path}: not a plain .npy array of numbers: {error}") from None
    if found.ndim != 1 or not found.size:
        raise BadInput(f"{path}: found shape {found.shape}; one dimension is needed, not empty")
    if found.dtype.kind not in "fiu":
        raise BadInput(f"{path}: found values of type {found.dtype}; numbers are needed")
    values = found.astype(np.float64)
    wrong = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
    if wrong.size:
        at = int(wrong[0])
        raise BadInput(
            f"{path}: element {at}: found {values[at]}; a perplexity is finite and above 0"
        )
    return values


def conformities(perplexities: npt.NDArray[np.float64]) -> list[float]:
    """Perplexities as conformity scores: −ln(ppl), nats a token."""
    scores: list[float] = (-np.log(perplexities)).tolist()
    return scores
