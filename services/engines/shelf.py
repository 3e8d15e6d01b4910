"""Sequences being written whose lengths are alike: their KV side by side.

All rows end in the same column and grow by one column a step: new keys are written by one slice,
a step copies no KV, and a row's mask does not change while it stays. A row that joins is copied in
from the store, one that leaves gives back what it added.
"""

from __future__ import annotations

import torch

from services.engines.jobs import GenerateJob
from services.engines.kv_store import KvStore
from services.engines.prefix_tree import Slots


class Shelf:
    """Rows of at most `limit` tokens; row `i` is `jobs[i]`, in the columns `[begin, end)`.

    `start` is the first column that any row fills.

    `keys` and `values` are `[layers, rows, heads, columns, dim]`; `mask`, `[rows, 1, 1, columns]`,
    is added to attention scores.
    """

    def __init__(self, store: KvStore, limit: int) -> None:
        self.limit = limit
        self.jobs: list[GenerateJob] = []
        # A row of any length fits before this column; half as many again lie behind it, and once
        # in so many steps all rows are moved back.
        self.end = limit
        self.start = limit
        self._store = store
        self._begin: list[int] = []
        self._columns = limit + max(limit // 2, 16)
        self._allocate(0)

    def lengths(self) -> list[int]:
        """Tokens of each row that have KV here."""
        return [self.end - begin for begin in self._begin]

    def join(self, job: GenerateJob) -> None:
        """Add a row; all but the last of the job's ids have KV in the store."""
        at = self._store.places(job.slots)
        keys, values = self._store.keys[:, at], self._store.values[:, at]
        self._add(job, keys.transpose(1, 2), values.transpose(1, 2))

    def take_over(self, other: Shelf, row: int) -> None:
        """Add a row of another shelf, which loses it."""
        columns = slice(other._begin[row], other.end)
        self._add(other.jobs[row], other.keys[:, row, :, columns], other.values[:, row, :, columns])
        other._drop(row)

    def leave(self, job: GenerateJob, slots: Slots) -> None:
        """Remove a row, storing the KV of its last `len(slots)` tokens at `slots`."""
        row = self.jobs.index(job)
        if len(slots):
            at, columns = self._store.places(slots), slice(self.end - len(slots), self.end)
            self._store.keys[:, at] = self.keys[:, row, :, columns].transpose(1, 2)
            self._store.values[:, at] = self.values[:, row, :, columns].transpose(1, 2)
        self._drop(row)

    def make_column(self) -> None:
        """Have a free column at `end`."""
        if self.end == self._columns:
            self._move_back()

    def _add(self, job: GenerateJob, keys: torch.Tensor, values: torch.Tensor) -> None:
        length, row = keys.shape[2], len(self.jobs)
        if row == self.keys.shape[1]:
            self._allocate(row + 1 + row // 4)
        columns = slice(self.end - length, self.end)
        self.keys[:, row, :, columns] = keys
        self.values[:, row, :, columns] = values
        self.jobs.append(job)
        self._begin.append(columns.start)
        self.start = min(self._begin)
        self._show(row)

    def _drop(self, row: int) -> None:
        """Fill the gap with the last row; a shelf left empty keeps no memory."""
        last = len(self.jobs) - 1
        if row != last:
            columns = slice(self._begin[last], self.end)
            self.keys[:, row, :, columns] = self.keys[:, last, :, columns]
            self.values[:, row, :, columns] = self.values[:, last, :, columns]
            self.jobs[row], self._begin[row] = self.jobs[last], self._begin[last]
            self._show(row)
        self.jobs.pop()
        self._begin.pop()
        self.start = min(self._begin, default=self.end)
        if not self.jobs:
            self._allocate(0)

    def _move_back(self) -> None:
        """Shift all rows to the left, so that they end where rows begin to be written."""
        count, shift = len(self.jobs), self.limit - self.end
        before = slice(self.start, self.end)
        after = slice(before.start + shift, self.limit)
        for mine in (self.keys, self.values):
            mine[:, :count, :, after] = mine[:, :count, :, before].clone()
        self.start, self.end = after.start, after.stop
        for row in range(count):
            self._begin[row] += shift
            self._show(row)

    def _show(self, row: int) -> None:
        """Let a row see the columns from its beginning on."""
        self.mask[row, :, :, : self._begin[row]] = torch.finfo(self.mask.dtype).min
        self.mask[row, :, :, self._begin[row] :] = 0

    def _allocate(self, rows: int) -> None:
        """Have room for `rows` rows, keeping those there are. Zeros: what is masked is a number."""
        kv, count = self._store.shape, len(self.jobs)
        sizes = (kv.layers, rows, kv.heads, self._columns)
        keys = torch.zeros(*sizes, kv.key_dim, dtype=kv.dtype, device=kv.device)
        values = torch.zeros(*sizes, kv.value_dim, dtype=kv.dtype, device=kv.device)
        mask = torch.zeros(rows, 1, 1, self._columns, dtype=kv.dtype, device=kv.device)
        if count:
            span = slice(self.start, self.end)
            keys[:, :count, :, span] = self.keys[:, :count, :, span]
            values[:, :count, :, span] = self.values[:, :count, :, span]
            mask[:count] = self.mask[:count]
        self.keys: torch.Tensor = keys
        self.values: torch.Tensor = values
        self.mask: torch.Tensor = mask
