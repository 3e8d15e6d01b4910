"""Drawing the next token of every sequence of a batch at once.

A token depends on its own distribution, settings and uniform number alone: the same seed draws the
same tokens from equal distributions, whatever else is in the batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from atts_core.engine import Sampling


def draws(seed: int, count: int) -> list[float]:
    """Uniform numbers in [0, 1), one a token (Philox, keyed by the seed).

    A millionth below 1 at most: times a sum of probabilities such a number stays below the sum,
    in single precision too.
    """
    key = np.random.SeedSequence(abs(seed)).generate_state(2, np.uint64)
    uniform = np.random.Generator(np.random.Philox(key=key)).random(count)
    drawn: list[float] = (uniform * (1 - 2**-20)).tolist()
    return drawn


class Sampler:
    """Draws for the rows of one batch; made anew when the batch changes."""

    def __init__(self, rows: Sequence[Sampling], device: torch.device) -> None:
        greedy = [row.temperature == 0 for row in rows]
        cut = [
            not g and (row.top_k > 0 or row.top_p < 1) for g, row in zip(greedy, rows, strict=True)
        ]
        self._device = device
        # A CPU adds up in double precision anyway; a GPU adds in parts, which must not cross.
        self._summed = np.float32 if device.type == "cpu" else np.float64
        self._all_greedy = all(greedy)
        self._greedy = torch.tensor(greedy, device=device) if any(greedy) else None
        self._temperature = self._column([row.temperature or 1.0 for row in rows], np.float32)
        self._cut = [i for i, c in enumerate(cut) if c]
        chosen = [rows[i] for i in self._cut]
        self._top_k = self._column([row.top_k or 2**31 for row in chosen], np.int64)
        self._top_p = self._column([row.top_p for row in chosen], np.float32)

    def draw(self, logits: torch.Tensor, uniform: Sequence[float]) -> torch.Tensor:
        """Ids `[rows]` from logits `[rows, vocabulary]`.

        Where the numbers of a row are not finite, its id is the size of the vocabulary.
        """
        if self._all_greedy:
            return _likeliest(logits)
        probability = torch.softmax(logits.float() / self._temperature, -1)
        if self._cut:
            self._cut_tails(probability)
        point = self._column(uniform, self._summed)
        summed = probability.cumsum(-1, dtype=point.dtype)
        ids = torch.searchsorted(summed, point * summed[:, -1:], right=True)[:, 0]
        if self._greedy is None:
            return ids
        return torch.where(self._greedy, _likeliest(logits), ids)

    def _column(self, numbers: Sequence[float], kind: type[np.generic]) -> torch.Tensor:
        """`[rows, 1]`; by way of numpy, which reads a list several times faster."""
        return torch.from_numpy(np.array(numbers, kind)[:, None]).to(self._device)

    def _cut_tails(self, probability: torch.Tensor) -> None:
        """Zero, in place, what top_k and then top_p leave out."""
        rows = probability[self._cut]
        ordered, order = rows.sort(dim=-1, descending=True, stable=True)
        rank = torch.arange(ordered.shape[-1], device=self._device)
        ordered = torch.where(rank < self._top_k, ordered, 0.0)
        ordered = ordered / ordered.sum(-1, keepdim=True)
        before = ordered.cumsum(-1) - ordered
        ordered = torch.where(before < self._top_p, ordered, 0.0)
        probability[self._cut] = torch.zeros_like(rows).scatter(-1, order, ordered)


def _likeliest(logits: torch.Tensor) -> torch.Tensor:
    most, ids = logits.max(-1)  # where one is not a number, so is the largest
    return torch.where(most.isfinite(), ids, logits.shape[-1])
