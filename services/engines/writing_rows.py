"""The sequences being written: their KV side by side, so that a step is one plain forward pass.

All rows end in the same column and grow by one column a step: a new key is written by a slice, a
step copies no KV, and a row's mask never changes while it stays. A row that joins is copied in
from the store, one that leaves gives back what it added.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache

from services.engines.checkpoint import CausalModel
from services.engines.jobs import GenerateJob
from services.engines.kv_store import KvStore
from services.engines.prefix_tree import Slots
from services.engines.sampling import Sampler


class WritingRows:
    """The running batch. Row `i` belongs to `jobs[i]` and fills the columns `[begin[i], end)`."""

    def __init__(self, store: KvStore) -> None:
        self._store = store
        self.jobs: list[GenerateJob] = []
        self._begin: list[int] = []
        self._end = 0
        self._buffers = _Buffers(store, 0, 0)
        self._stale = True
        self._sampler = Sampler([], store.shape.device)
        self._ids = self._positions = torch.empty(0)
        self._start = 0

    def fits(self, job: GenerateJob) -> bool:
        """Whether the rows, all as long as the longest may become, stay within the budget."""
        longest = max([job.longest, *(other.longest for other in self.jobs)])
        return longest * (len(self.jobs) + 1) <= max(self._store.tokens, job.longest)

    def join(self, job: GenerateJob) -> None:
        """Add a row; all but the last of the job's ids have KV in the store."""
        length = job.computed
        self._make_room(length, job.longest)
        row = len(self.jobs)
        begin = self._end - length
        slots = torch.from_numpy(job.slots).to(self._store.shape.device)
        buffers = self._buffers
        for mine, stored in (
            (buffers.keys, self._store.keys),
            (buffers.values, self._store.values),
        ):
            copy = stored.index_select(1, slots).transpose(1, 2)
            mine[:, row, :, begin : self._end] = copy
        self.jobs.append(job)
        self._begin.append(begin)
        self._show(row)
        self._stale = True

    def leave(self, job: GenerateJob, slots: Slots) -> None:
        """Remove a row, storing the KV of its last `len(slots)` tokens at `slots`."""
        row, last, count = self.jobs.index(job), len(self.jobs) - 1, len(slots)
        buffers = self._buffers
        if count:
            at = torch.from_numpy(slots).to(self._store.shape.device)
            columns = slice(self._end - count, self._end)
            for mine, stored in (
                (buffers.keys, self._store.keys),
                (buffers.values, self._store.values),
            ):
                stored.index_copy_(1, at, mine[:, row, :, columns].transpose(1, 2))
        if row != last:
            columns = slice(self._begin[last], self._end)
            buffers.keys[:, row, :, columns] = buffers.keys[:, last, :, columns]
            buffers.values[:, row, :, columns] = buffers.values[:, last, :, columns]
            buffers.mask[row] = buffers.mask[last]
            self.jobs[row], self._begin[row] = self.jobs[last], self._begin[last]
        self.jobs.pop()
        self._begin.pop()
        self._stale = True

    def step(self, model: CausalModel) -> list[int]:
        """Write one token in every row; returns them."""
        if self._end == self._buffers.columns:
            self._lay_out(self._buffers, self._used)
        if self._stale:
            self._refresh()
        rows = len(self.jobs)
        start = self._start
        logits = model.logits(
            self._ids,
            self._positions,
            self._buffers.mask[:rows, :, :, start : self._end + 1],
            _WritingCache(self._buffers, rows, start, self._end),
            1,
        )
        uniform = [job.draws[len(job.written)] for job in self.jobs]
        ids = self._sampler.draw(logits[:, -1], uniform)
        self._end += 1
        self._ids = ids[:, None]
        self._positions += 1
        written: list[int] = ids.tolist()
        return written

    def _refresh(self) -> None:
        """Make the tensors of a batch that has changed."""
        device = self._store.shape.device
        last = [[job.written[-1] if job.written else int(job.ids[-1])] for job in self.jobs]
        lengths = [[self._end - begin] for begin in self._begin]
        self._ids = torch.tensor(last, device=device)
        self._positions = torch.tensor(lengths, device=device)
        self._sampler = Sampler([job.sampling for job in self.jobs], device)
        self._start = min(self._begin)
        self._stale = False

    def _make_room(self, length: int, longest: int) -> None:
        """Have a free row, and columns for one of `length` that may become `longest`."""
        rows = len(self.jobs) + 1
        used = self._used
        widest = 1 + max(longest, used, *(job.longest for job in self.jobs))
        if rows > self._buffers.rows or widest > self._buffers.columns:
            self._lay_out(self._larger(rows, widest), max(used, length))
        elif length > self._end or self._end == self._buffers.columns:
            self._lay_out(self._buffers, max(used, length))

    @property
    def _used(self) -> int:
        return self._end - min(self._begin, default=self._end)

    def _larger(self, rows: int, columns: int) -> _Buffers:
        """Buffers with some room to spare, so that they seldom grow and rows seldom move."""
        old = self._buffers
        roomy_rows = max(1 << (rows - 1).bit_length(), old.rows)
        roomy_columns = max(columns + 64 + columns // 4, old.columns)
        if roomy_rows * roomy_columns > 2 * self._store.tokens:
            roomy_rows, roomy_columns = rows, columns
        return _Buffers(self._store, roomy_rows, roomy_columns)

    def _lay_out(self, buffers: _Buffers, end: int) -> None:
        """Move all rows into `buffers` so that they end in column `end`."""
        count, used, shift = len(self.jobs), self._used, end - self._end
        before, after = slice(self._end - used, self._end), slice(end - used, end)
        for mine, old in (
            (buffers.keys, self._buffers.keys),
            (buffers.values, self._buffers.values),
        ):
            rows = old[:, :count, :, before]
            mine[:, :count, :, after] = rows.clone() if mine is old else rows
        self._buffers, self._end = buffers, end
        for row in range(count):
            self._begin[row] += shift
            self._show(row)
        self._stale = True

    def _show(self, row: int) -> None:
        """Let the row see the columns from its beginning on."""
        begin, mask = self._begin[row], self._buffers.mask
        mask[row, :, :, :begin] = torch.finfo(mask.dtype).min
        mask[row, :, :, begin:] = 0


class _Buffers:
    """`keys` and `values` `[layers, rows, heads, columns, dim]`, `mask` `[rows, 1, 1, columns]`."""

    def __init__(self, store: KvStore, rows: int, columns: int) -> None:
        kv = store.shape
        self.rows, self.columns = rows, columns
        sizes = (kv.layers, rows, kv.heads, columns)
        self.keys = torch.zeros(*sizes, kv.key_dim, dtype=kv.dtype, device=kv.device)
        self.values = torch.zeros(*sizes, kv.value_dim, dtype=kv.dtype, device=kv.device)
        self.mask = torch.zeros(rows, 1, 1, columns, dtype=kv.dtype, device=kv.device)


class _WritingCache(Cache):  # type: ignore[misc]
    """Writes each layer's new keys into column `end` and hands out the columns from `start`."""

    def __init__(self, buffers: _Buffers, rows: int, start: int, end: int) -> None:
        super().__init__(layers=[])
        self._keys = buffers.keys[:, :rows, :, start : end + 1]
        self._values = buffers.values[:, :rows, :, start : end + 1]
        self._length = end - start

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        all_keys, all_values = self._keys[layer], self._values[layer]
        all_keys[:, :, self._length :] = keys
        all_values[:, :, self._length :] = values
        return all_keys, all_values

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self._length
