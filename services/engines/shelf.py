"""Sequences being written whose lengths are alike: their KV side by side.

All rows end in the same column and grow by one column a step: new keys are written by one slice,
a step copies no KV, and a row's mask does not change while it stays. A row that joins is copied in
from the store, one that leaves gives back what it added.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from services.engines.jobs import GenerateJob
from services.engines.kv_store import KvStore
from services.engines.prefix_tree import Slots

_AHEAD = 64
"""Free columns that a shelf has at least when it is made or moved: so rare is the next move."""


def _roomy(rows: int) -> int:
    """Rows are few and come one by one: not a new place for each."""
    return rows + max(4, rows // 2)


class Block:
    """Some columns of a shelf, from `first` on.

    `keys` and `values` are `[layers, rows, heads, columns, dim]`; `mask`, `[rows, heads, 1,
    columns]`, is added to attention scores: the same for each head. What is masked is a number.
    The same with rows and heads as one dimension is `flat_`.
    """

    def __init__(self, store: KvStore, first: int, rows: int, columns: int) -> None:
        shape, sizes = store.shape, (rows, store.shape.heads, columns)
        count = shape.layers * rows * shape.heads * columns
        self.first = first
        self.columns = columns
        self._pool = store.pool
        keys, values = (store.pool.take(count * dim) for dim in (shape.key_dim, shape.value_dim))
        self._memory = [keys, values]
        self.keys = keys[: count * shape.key_dim].view(shape.layers, *sizes, shape.key_dim)
        self.values = values[: count * shape.value_dim].view(shape.layers, *sizes, shape.value_dim)
        # Not from the pool: as a key, what hides a column would hide nothing.
        self.mask = torch.zeros(
            rows, shape.heads, 1, columns, dtype=shape.dtype, device=shape.device
        )
        self.flat_keys = self.keys.flatten(1, 2)
        self.flat_values = self.values.flatten(1, 2)
        self.flat_mask = self.mask.flatten(0, 1)

    def release(self) -> None:
        """Give the memory back."""
        for memory in self._memory:
            self._pool.give(memory)


class Shelf:
    """Row `i` is `jobs[i]`, in the columns `[begin, end)`; `start` is the first that any fills.

    `old` holds the columns that were full when the shelf was last moved, without a gap between
    rows: a CPU reads that by half faster from memory than rows with room behind each. `new` holds
    the others. Where that is no gain, `old` has no columns.
    """

    def __init__(self, store: KvStore) -> None:
        self.jobs: list[GenerateJob] = []
        self.start = self.end = 0
        self._store = store
        self._begin: list[int] = []
        self.old = self.new = Block(store, 0, 0, 0)

    @property
    def width(self) -> int:
        """Tokens of the longest row."""
        return self.end - self.start

    def lengths(self) -> list[int]:
        """Tokens of each row that have KV here."""
        return [self.end - begin for begin in self._begin]

    def make_room(self, rows: int, length: int) -> None:
        """Have memory for so many rows, the longest of `length` tokens."""
        if not self.jobs:
            most = self.new.first + self.new.columns
            self.start = self.end = max(self.old.columns, min(length, most))
        if rows > len(self.new.mask) or length > self.end:
            self._allocate(_roomy(rows), max(length, self.width))

    def make_column(self) -> None:
        """Have a free column at `end`, in `new`."""
        if self.end == self.new.first + self.new.columns:
            # Rows of many that have left would grow with the few that stay.
            self._allocate(min(len(self.new.mask), _roomy(len(self.jobs))), self.width)

    def join(self, job: GenerateJob) -> None:
        """Add a row; all but the last of the job's ids have KV in the store."""
        keys, values = self._store.read(job.slots)
        self._add(job, [(keys.transpose(1, 2), values.transpose(1, 2))])

    def take_over(self, other: Shelf, row: int) -> None:
        """Add a row of another shelf, which loses it."""
        whole = range(other._begin[row], other.end)
        parts = [
            (block.keys[:, row, :, columns], block.values[:, row, :, columns])
            for block, columns in other.blocks(whole)
        ]
        self._add(other.jobs[row], parts)
        other._drop(row)

    def leave(self, job: GenerateJob, slots: Slots) -> None:
        """Remove a row, storing the KV of its last `len(slots)` tokens at `slots`."""
        row, store, done = self.jobs.index(job), self._store, 0
        for block, columns in self.blocks(range(self.end - len(slots), self.end)):
            count = columns.stop - columns.start
            at = store.places(slots[done : done + count])
            store.keys[:, at] = block.keys[:, row, :, columns].transpose(1, 2)
            store.values[:, at] = block.values[:, row, :, columns].transpose(1, 2)
            done += count
        if not done:
            # It may have ended for numbers that are not finite: masked, they would spread.
            for block in (self.old, self.new):
                block.keys[:, row].zero_()
                block.values[:, row].zero_()
        self._drop(row)

    def release(self) -> None:
        """Give up all memory; the shelf is of no more use."""
        for block in {self.old, self.new}:
            block.release()

    def blocks(self, columns: range) -> Iterator[tuple[Block, slice]]:
        """Where `columns` are: blocks, and the columns within each."""
        for block in (self.old, self.new):
            begin = max(columns.start, block.first)
            end = min(columns.stop, block.first + block.columns)
            if begin < end:
                yield block, slice(begin - block.first, end - block.first)

    def _add(self, job: GenerateJob, parts: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Add a row of which `parts` are the keys and values, `[layers, heads, tokens, dim]`."""
        length, row = sum(keys.shape[2] for keys, _ in parts), len(self.jobs)
        self.make_room(row + 1, length)
        self._begin.append(self.end - length)
        self.jobs.append(job)
        self._write(row, self._begin[row], parts)
        self.start = min(self._begin)
        self._show(row)

    def _write(self, row: int, at: int, parts: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
        for keys, values in parts:
            done = 0
            for block, columns in self.blocks(range(at, at + keys.shape[2])):
                count = columns.stop - columns.start
                block.keys[:, row, :, columns] = keys[:, :, done : done + count]
                block.values[:, row, :, columns] = values[:, :, done : done + count]
                done += count
            at += done

    def _drop(self, row: int) -> None:
        """Fill the gap with the last row."""
        last = len(self.jobs) - 1
        if row != last:
            for block, columns in self.blocks(range(self._begin[last], self.end)):
                block.keys[:, row, :, columns] = block.keys[:, last, :, columns]
                block.values[:, row, :, columns] = block.values[:, last, :, columns]
            self.jobs[row], self._begin[row] = self.jobs[last], self._begin[last]
            self._show(row)
        self.jobs.pop()
        self._begin.pop()
        self.start = min(self._begin, default=self.end)

    def _show(self, row: int) -> None:
        """Let a row see the columns from its beginning on."""
        for block in (self.old, self.new):
            hidden = max(0, self._begin[row] - block.first)
            block.mask[row, :, :, :hidden] = torch.finfo(block.mask.dtype).min
            block.mask[row, :, :, hidden:] = 0

    def _hide(self) -> None:
        """Hide, in new memory, what stands before each row's beginning."""
        begins = torch.tensor(self._begin, device=self.new.mask.device)[:, None, None, None]
        for block in (self.old, self.new):
            places = torch.arange(block.columns, device=begins.device) + block.first
            hidden = torch.finfo(block.mask.dtype).min
            block.mask[: len(begins)].masked_fill_(places < begins, hidden)

    def _allocate(self, rows: int, end: int) -> None:
        """Have room for `rows` rows that end in the column `end`, with those there are."""
        shift = end - self.end
        dense = end if self._store.pool.exceeds_cache else 0
        ahead = max(_AHEAD, (end - dense) // 2) if rows else 0
        old = Block(self._store, 0, rows, dense)
        new = Block(self._store, dense, rows, end - dense + ahead)
        count = len(self.jobs)
        before = list(self.blocks(range(self.start, self.end))) if count else []
        self.start, at = self.start + shift, self.start + shift
        self.end = end
        self._begin = [begin + shift for begin in self._begin]
        replaced = {self.old, self.new}
        self.old, self.new = old, new
        for block, columns in before:
            done = columns.start
            span = range(at, at + columns.stop - columns.start)
            for mine, place in self.blocks(span):
                part = slice(done, done + place.stop - place.start)
                mine.keys[:, :count, :, place] = block.keys[:, :count, :, part]
                mine.values[:, :count, :, place] = block.values[:, :count, :, part]
                done = part.stop
            at = span.stop
        if count:
            self._hide()
        for block in replaced:
            block.release()
