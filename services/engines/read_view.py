"""Attention of given tokens that are read: jobs of like length look at the store together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention

from services.engines.forward import Portion
from services.engines.jobs import Job
from services.engines.kv_store import KvStore

_CALL = 4096
"""Keys that may be read, or looked at, for nothing where that spares a call of attention."""


def read_together(
    store: KvStore, reading: Portion, begin: int
) -> tuple[list[ReadView], torch.Tensor | None]:
    """Views of the jobs' tokens, which lie in a row behind `begin` others.

    What the views give, one behind the other, is then in another order than the tokens: the second
    result are the places where the tokens' are; None: it is in their order.
    """
    ends = np.cumsum([begin, *(count for _, count in reading)])
    views = [
        ReadView(store, [(*reading[i], int(ends[i])) for i in group]) for group in _alike(reading)
    ]
    order = np.concatenate([np.arange(begin), *(view.tokens for view in views)])
    if (np.diff(order) == 1).all():
        return views, None
    return views, torch.from_numpy(np.argsort(order)).to(store.shape.device)


def _alike(reading: Portion) -> list[list[int]]:
    """Indices of jobs that attend together: those to which the longest of them adds little."""
    groups: list[list[int]] = []
    for index in sorted(range(len(reading)), key=lambda i: -len(reading[i][0].slots)):
        if groups and _together(reading, [*groups[-1], index]) <= _CALL:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def _together(reading: Portion, group: Sequence[int]) -> int:
    """Products of a query and a key, and keys that are read, for nothing when these attend as one.

    A product costs a sixteenth of a read.
    """
    jobs = [(len(reading[i][0].slots), reading[i][1]) for i in group]
    width, count = max(length for length, _ in jobs), max(count for _, count in jobs)
    read = sum(width - length for length, _ in jobs)
    looked = sum(width * count - length * own for length, own in jobs)
    return read + looked // 16


class ReadView:
    """Some jobs' tokens in the store, the last of each new: `(job, new tokens, where they begin)`.

    `tokens` are the places of their new tokens in the step's row of tokens, as `attend` gives them.
    """

    def __init__(self, store: KvStore, jobs: Sequence[tuple[Job, int, int]]) -> None:
        self._store = store
        shape = store.shape
        rows, width = len(jobs), max(len(job.slots) for job, _, _ in jobs)
        count = max(new for _, new, _ in jobs)
        slots = np.zeros((rows, width), np.int64)
        asks = np.zeros((rows, count), np.int64)
        sees = np.zeros((rows, count), np.int64)
        real = np.zeros((rows, count), bool)
        for row, (job, new, begin) in enumerate(jobs):
            slots[row, : len(job.slots)] = job.slots
            asks[row] = np.minimum(np.arange(begin, begin + count), begin + new - 1)
            sees[row] = np.minimum(
                np.arange(len(job.slots) - new, len(job.slots) - new + count), len(job.slots) - 1
            )
            real[row, :new] = True
        self.tokens = asks[real]
        self._shape = rows, width, count
        self._slots = self._tensor(slots.ravel())
        self._asks = self._tensor(asks.ravel())
        self._real = None if real.all() else self._tensor(np.flatnonzero(real))
        hidden = torch.from_numpy(np.arange(width) > sees[:, None, :, None])
        self._mask = torch.zeros(hidden.shape, dtype=shape.dtype)
        self._mask.masked_fill_(hidden, torch.finfo(shape.dtype).min)
        self._mask = self._mask.to(shape.device)
        tokens = rows * width * shape.heads
        self._memory = [store.pool.take(tokens * dim) for dim in (shape.key_dim, shape.value_dim)]
        self._keys, self._values = (
            memory[: tokens * dim].view(rows * width, shape.heads, dim)
            for memory, dim in zip(self._memory, (shape.key_dim, shape.value_dim), strict=True)
        )

    def attend(self, query: torch.Tensor, layer: int, scale: float | None) -> torch.Tensor:
        """Causal attention of the step's query `[all tokens, heads, dim]`: `[own, heads, dim]`."""
        rows, width, count = self._shape
        torch.index_select(self._store.keys[layer], 0, self._slots, out=self._keys)
        torch.index_select(self._store.values[layer], 0, self._slots, out=self._values)
        asked = query.index_select(0, self._asks).view(rows, count, *query.shape[1:])
        out = scaled_dot_product_attention(
            asked.transpose(1, 2),
            self._keys.view(rows, width, *self._keys.shape[1:]).transpose(1, 2),
            self._values.view(rows, width, *self._values.shape[1:]).transpose(1, 2),
            attn_mask=self._mask,
            scale=scale,
            enable_gqa=query.shape[1] != self._keys.shape[1],
        )
        seen = out.transpose(1, 2).reshape(rows * count, *out.shape[1::2])
        return seen if self._real is None else seen.index_select(0, self._real)

    def release(self) -> None:
        """Give the memory back."""
        for memory in self._memory:
            self._store.pool.give(memory)

    def _tensor(self, numbers: np.ndarray[tuple[int], np.dtype[np.int64]]) -> torch.Tensor:
        return torch.from_numpy(numbers).to(self._store.shape.device)
