"""Attention of given tokens that are read: jobs of like length look at the store together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention

from services.engines.forward import Portion
from services.engines.jobs import Job
from services.engines.kv_store import KvStore
from services.engines.prefix_tree import Slots

_CALL = 4096
"""Keys that may be read, or looked at, for nothing where that spares a call of attention."""


class Reading(Protocol):
    """Some jobs' tokens in the store.

    `tokens` are the places of their new tokens in the step's row of tokens, as `attend` gives them.
    """

    tokens: np.ndarray[tuple[int], np.dtype[np.int64]]

    def attend(self, query: torch.Tensor, layer: int, scale: float | None) -> torch.Tensor:
        """Causal attention of the step's query `[all tokens, heads, dim]`: `[own, heads, dim]`."""
        ...

    def release(self) -> None:
        """Give the memory back."""
        ...


def read_together(
    store: KvStore, reading: Portion, begin: int
) -> tuple[list[Reading], torch.Tensor | None]:
    """Views of the jobs' tokens, which lie in a row behind `begin` others.

    What the views give, one behind the other, is then in another order than the tokens: the second
    result are the places where the tokens' are; None: it is in their order.
    """
    ends = np.cumsum([begin, *(count for _, count in reading)])
    views: list[Reading] = []
    for group in _alike(reading):
        jobs = [(*reading[i], int(ends[i])) for i in group]
        alone = len(jobs) == 1 and store.shape.single_on_cpu
        views.append(_Alone(store, *jobs[0]) if alone else _Together(store, jobs))
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


class _Gathered:
    """A layer's keys and values `[slots, heads, dim]`: copied, if they are not in a row."""

    def __init__(self, store: KvStore, slots: Slots) -> None:
        self._store = store
        self._places, self._memory = store.places(slots), list[torch.Tensor]()
        if isinstance(self._places, torch.Tensor):
            shape, rows = store.shape, len(slots) * store.shape.heads
            sizes = [rows * dim for dim in (shape.key_dim, shape.value_dim)]
            self._memory = [store.pool.take(size) for size in sizes]
            self._keys, self._values = (
                memory[:size].view(len(slots), shape.heads, -1)
                for memory, size in zip(self._memory, sizes, strict=True)
            )

    def layer(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        keys, values, at = self._store.keys[layer], self._store.values[layer], self._places
        if isinstance(at, slice):
            return keys[at], values[at]
        torch.index_select(keys, 0, at, out=self._keys)
        torch.index_select(values, 0, at, out=self._values)
        return self._keys, self._values

    def release(self) -> None:
        for memory in self._memory:
            self._store.pool.give(memory)


class _Alone:
    """One job's tokens, the last of them new: by plain products, on a CPU faster for one."""

    def __init__(self, store: KvStore, job: Job, new: int, begin: int) -> None:
        self._new = slice(begin, begin + new)
        self._before = len(job.slots) - new
        self.tokens = np.arange(begin, begin + new)
        # Before the new tokens nothing is hidden.
        self._late = torch.full((new, new), torch.finfo(store.shape.dtype).min).triu_(1)
        self._at = _Gathered(store, job.slots)
        self.release = self._at.release

    def attend(self, query: torch.Tensor, layer: int, scale: float | None) -> torch.Tensor:
        keys, values = self._at.layer(layer)
        own, heads = query[self._new], keys.shape[1]
        # Query heads that share a key head ask as if they were tokens: no key is repeated.
        asked = (own * (scale or own.shape[2] ** -0.5)).view(len(own), heads, -1, own.shape[2])
        asked = asked.permute(1, 2, 0, 3).reshape(heads, -1, own.shape[2])
        weights = torch.bmm(asked, keys.permute(1, 2, 0))
        weights.view(heads, -1, len(own), len(keys))[..., self._before :].add_(self._late)
        out = torch.bmm(torch.softmax(weights, -1, out=weights), values.transpose(0, 1))
        out = out.view(heads, -1, len(own), out.shape[2]).permute(2, 0, 1, 3)
        return out.reshape(*own.shape[:2], -1)


class _Together:
    """Several jobs' tokens, the last of each new: `(job, new tokens, where they begin)`."""

    def __init__(self, store: KvStore, jobs: Sequence[tuple[Job, int, int]]) -> None:
        self._device = store.shape.device
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
        self._at = _Gathered(store, slots.ravel())
        self.release = self._at.release
        self._asks = self._tensor(asks.ravel())
        self._real = None if real.all() else self._tensor(np.flatnonzero(real))
        hidden = torch.from_numpy(np.arange(width) > sees[:, None, :, None])
        self._mask = torch.zeros(hidden.shape, dtype=shape.dtype)
        self._mask.masked_fill_(hidden, torch.finfo(shape.dtype).min)
        self._mask = self._mask.to(shape.device)

    def attend(self, query: torch.Tensor, layer: int, scale: float | None) -> torch.Tensor:
        rows, width, count = self._shape
        keys, values = self._at.layer(layer)
        asked = query.index_select(0, self._asks).view(rows, count, *query.shape[1:])
        out = scaled_dot_product_attention(
            asked.transpose(1, 2),
            keys.view(rows, width, *keys.shape[1:]).transpose(1, 2),
            values.view(rows, width, *values.shape[1:]).transpose(1, 2),
            attn_mask=self._mask,
            scale=scale,
            enable_gqa=query.shape[1] != keys.shape[1],
        )
        seen = out.transpose(1, 2).reshape(rows * count, *out.shape[1::2])
        return seen if self._real is None else seen.index_select(0, self._real)

    def _tensor(self, numbers: np.ndarray[tuple[int], np.dtype[np.int64]]) -> torch.Tensor:
        return torch.from_numpy(numbers).to(self._device)
