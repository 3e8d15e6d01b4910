"""A step as two padded batches, one that writes and one that reads: works with every attention."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers.cache_utils import Cache

from services.engines.checkpoint import CausalModel
from services.engines.forward import (
    Drawn,
    Portion,
    logprobs,
    rated_by,
    scores_in,
    take_slots,
)
from services.engines.jobs import GenerateJob, ScoreJob
from services.engines.kv_store import KvStore
from services.engines.prefix_tree import Slots
from services.engines.shelf import Shelf


class PaddedForward:
    """A `Forward` for models whose attention cannot be replaced."""

    def __init__(self, model: CausalModel, store: KvStore) -> None:
        self._model = model
        self._store = store
        self._shelf = Shelf(store)
        self._drawn: Drawn | None = None

    def jobs(self) -> list[GenerateJob]:
        return list(self._shelf.jobs)

    def fits(self, job: GenerateJob) -> bool:
        jobs = [*self._shelf.jobs, job]
        return len(jobs) == 1 or len(jobs) * max(j.longest for j in jobs) <= self._store.tokens

    def join(self, job: GenerateJob) -> None:
        self._shelf.join(job)
        self._drawn = None

    def leave(self, job: GenerateJob, slots: Slots) -> None:
        self._shelf.leave(job, slots)
        if not self._shelf.jobs:
            self._shelf.release()
            self._shelf = Shelf(self._store)
        self._drawn = None

    def step(self, reading: Portion) -> list[tuple[GenerateJob, int]]:
        if reading:
            self._read(reading)
        return self._write() if self._shelf.jobs else []

    def _write(self) -> list[tuple[GenerateJob, int]]:
        shelf = self._shelf
        shelf.make_column()
        if self._drawn is None:
            self._drawn = Drawn(shelf.jobs, shelf.lengths(), self._store.shape.device)
        drawn, rows = self._drawn, len(shelf.jobs)
        masks = [
            block.mask[:rows, :1, :, columns]
            for block, columns in shelf.blocks(range(shelf.start, shelf.end + 1))
        ]
        logits = self._model.logits(
            drawn.ids[:, None],
            drawn.positions[:, None],
            torch.cat(masks, -1),
            _WritingCache(shelf),
            1,
        )
        shelf.end += 1
        return drawn.draw(logits[:, -1])

    def _read(self, reading: Portion) -> None:
        """Keys lie as `[stored prefix, right-aligned | new tokens, right-aligned]`.

        So the last columns of the output are those that scores need, whatever the lengths.
        """
        fresh = take_slots(self._store, reading)
        wanted = [scores_in(job, count) for job, count in reading]
        logits = self._model.logits(
            *_aligned(reading, self._store),
            _ReadingCache(self._store, reading, fresh),
            max(1, *wanted),
        )
        for row, ((job, count), scores) in enumerate(zip(reading, wanted, strict=True)):
            job.computed += count
            if isinstance(job, ScoreJob) and scores:
                rated = logprobs(logits[row, -scores:], rated_by(job, job.computed, scores))
                job.logprobs.append(rated)


def _aligned(reading: Portion, store: KvStore) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids and positions `[rows, new]`, and what of `[stored | new]` keys each token sees."""
    width = max(count for _, count in reading)
    depth = max(job.computed for job, _ in reading)
    ids = np.zeros((len(reading), width), np.int64)
    places = np.zeros((len(reading), width), np.int64)
    sees = np.zeros((len(reading), 1, width, depth + width), bool)
    for row, (job, count) in enumerate(reading):
        end = job.computed + count
        ids[row, width - count :] = job.ids[job.computed : end]
        places[row, width - count :] = np.arange(job.computed, end)
        sees[row, :, :, depth - job.computed : depth] = True
        sees[row, 0, :, depth + width - count :] = np.tri(width, dtype=bool)[:, width - count :]
    device, dtype = store.shape.device, store.shape.dtype
    hidden = torch.from_numpy(~sees).to(device)
    mask = torch.zeros(hidden.shape, dtype=dtype, device=device)
    mask.masked_fill_(hidden, torch.finfo(dtype).min)
    return torch.from_numpy(ids).to(device), torch.from_numpy(places).to(device), mask


class _ReadingCache(Cache):  # type: ignore[misc]
    """Hands each layer the stored prefixes before the new keys, and stores the new ones."""

    def __init__(self, store: KvStore, reading: Portion, fresh: slice | torch.Tensor) -> None:
        super().__init__(layers=[])
        width = max(count for _, count in reading)
        depth = max(job.computed for job, _ in reading)
        prefix = np.zeros((len(reading), depth), np.int64)
        real = np.zeros((len(reading), width), bool)
        for row, (job, count) in enumerate(reading):
            prefix[row, depth - job.computed :] = job.slots[: job.computed]
            real[row, width - count :] = True
        device = store.shape.device
        self._store = store
        self._fresh = fresh
        self._prefix = torch.from_numpy(prefix).to(device)
        self._real = torch.from_numpy(np.flatnonzero(real)).to(device)

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return (
            self._join(self._store.keys[layer], keys),
            self._join(self._store.values[layer], values),
        )

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self._prefix.shape[1]

    def _join(self, pool: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        pool[self._fresh] = new.transpose(1, 2).flatten(0, 1)[self._real]
        stored = pool.index_select(0, self._prefix.flatten())
        stored = stored.view(*self._prefix.shape, *pool.shape[1:])
        return torch.cat([stored.transpose(1, 2), new], dim=2)


class _WritingCache(Cache):  # type: ignore[misc]
    """Writes each layer's new keys into a shelf's next column and hands out all columns."""

    def __init__(self, shelf: Shelf) -> None:
        super().__init__(layers=[])
        self._rows, self._length = len(shelf.jobs), shelf.width
        self._parts = list(shelf.blocks(range(shelf.start, shelf.end + 1)))

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        rows = slice(self._rows)
        block, columns = self._parts[-1]
        block.keys[layer, rows, :, columns.stop - 1 : columns.stop] = keys
        block.values[layer, rows, :, columns.stop - 1 : columns.stop] = values
        return (
            torch.cat([b.keys[layer, rows, :, part] for b, part in self._parts], 2),
            torch.cat([b.values[layer, rows, :, part] for b, part in self._parts], 2),
        )

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self._length
