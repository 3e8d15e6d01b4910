"""All of a step's tokens in one row, without padding: for models whose attention can be replaced.

The row holds the last token of every sequence being written, then the given tokens that are read.
Only attention knows whose token is whose: sequences of like length attend together, from their
shelf, and each job that reads attends from its place in the store.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
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

ATTENTION = "atts_packed"
_CROWDS = ((32, 128), (8, 256), (0, 512))
"""From so many sequences on, the narrowest shelf holds so many tokens: a shelf costs a call for
each layer, padding costs every row."""


class PackedForward:
    """A `Forward` that computes no padding and runs the model once a step."""

    def __init__(self, model: CausalModel, store: KvStore) -> None:
        self._model = model
        self._store = store
        self._shelves: dict[int, Shelf] = {}
        self._drawn: Drawn | None = None

    def jobs(self) -> list[GenerateJob]:
        return [job for shelf in self._filled() for job in shelf.jobs]

    def fits(self, job: GenerateJob) -> bool:
        jobs = self.jobs()
        return not jobs or job.longest + sum(j.longest for j in jobs) <= self._store.tokens

    def join(self, job: GenerateJob) -> None:
        self._shelf(job.computed + 1).join(job)
        self._drawn = None

    def leave(self, job: GenerateJob, slots: Slots) -> None:
        next(shelf for shelf in self._filled() if job in shelf.jobs).leave(job, slots)
        self._drawn = None

    def step(self, reading: Portion) -> list[tuple[GenerateJob, int]]:
        self._widen()
        shelves = self._filled()
        if not shelves and not reading:
            return []
        if self._drawn is None:
            lengths = [length for shelf in shelves for length in shelf.lengths()]
            self._drawn = Drawn(self.jobs(), lengths, self._store.shape.device)
        drawn, rows = self._drawn, len(self._drawn.ids)
        if reading:
            logits = self._read(shelves, reading, drawn)
        else:
            logits = self._run(drawn.ids, drawn.positions, _Packed(self._store, shelves), 0)
        for shelf in shelves:
            shelf.end += 1
        return drawn.draw(logits[:rows])

    def _read(self, shelves: list[Shelf], reading: Portion, drawn: Drawn) -> torch.Tensor:
        """Logits of the rows that write; notes what was read and the scores that fell out."""
        rows = len(drawn.ids)
        packed = _Packed(self._store, shelves)
        packed.read(reading, take_slots(self._store, reading))
        given = [job.ids[job.computed : job.computed + count] for job, count in reading]
        places = [np.arange(job.computed, job.computed + count) for job, count in reading]
        logits = self._run(
            torch.cat([drawn.ids, self._tensor(given)]),
            torch.cat([drawn.positions, self._tensor(places)]),
            packed,
            self._wanted(rows, reading),
        )
        self._rate(reading, logits[rows:])
        return logits

    def _run(
        self, ids: torch.Tensor, places: torch.Tensor, packed: _Packed, keep: int | torch.Tensor
    ) -> torch.Tensor:
        return self._model.logits(ids[None], places[None], None, packed, keep, packed=packed)[0]

    def _filled(self) -> list[Shelf]:
        return [shelf for shelf in self._shelves.values() if shelf.jobs]

    def _shelf(self, length: int) -> Shelf:
        """A shelf for a row of `length` tokens, at most half as wide again as needed or narrow."""
        crowd = sum(len(shelf.jobs) for shelf in self._shelves.values())
        limit = next(narrowest for rows, narrowest in _CROWDS if crowd >= rows)
        while limit < length:
            limit += limit // 2
        if limit not in self._shelves:
            self._shelves[limit] = Shelf(self._store, limit)
        return self._shelves[limit]

    def _widen(self) -> None:
        """Move rows that have outgrown their shelf, and have a free column everywhere."""
        for shelf in self._filled():
            while shelf.end - shelf.start == shelf.limit and shelf.jobs:
                row = shelf.lengths().index(shelf.limit)
                self._shelf(shelf.limit + 1).take_over(shelf, row)
                self._drawn = None
        for shelf in self._filled():
            shelf.make_column()

    def _wanted(self, rows: int, reading: Portion) -> torch.Tensor:
        """Whose logits are needed: all that write, and what predicts tokens to be rated."""
        parts, end = [np.arange(rows)], rows
        for job, count in reading:
            end += count
            parts.append(np.arange(end - scores_in(job, count), end))
        return self._tensor(parts)

    def _rate(self, reading: Portion, logits: torch.Tensor) -> None:
        """Note what was computed, and the scores that fell out."""
        counts = [scores_in(job, count) for job, count in reading]
        for job, count in reading:
            job.computed += count
        if not sum(counts):
            return
        parts = [
            rated_by(job, job.computed, n) for (job, _), n in zip(reading, counts, strict=True)
        ]
        rated = logprobs(logits, np.concatenate(parts))
        for (job, _), part in zip(reading, np.split(rated, np.cumsum(counts)[:-1]), strict=True):
            if isinstance(job, ScoreJob) and len(part):
                job.logprobs.append(part)

    def _tensor(self, parts: Sequence[np.ndarray[Any, Any]]) -> torch.Tensor:
        joined = np.concatenate(parts).astype(np.int64)
        return torch.from_numpy(joined).to(self._store.shape.device)


class _Packed(Cache):  # type: ignore[misc]
    """A step's keys and values: takes in each layer's new ones, then attends to all."""

    def __init__(self, store: KvStore, shelves: Sequence[Shelf]) -> None:
        super().__init__(layers=[])
        self._store = store
        self._shelves = [_ShelfView(shelf) for shelf in shelves]
        self._reading: list[_ReadView] = []
        self._fresh: slice | torch.Tensor = slice(0)
        self._layer = 0

    def read(self, reading: Portion, fresh: slice | torch.Tensor) -> None:
        """Have the tokens of `reading` behind the others; their KV goes to `fresh`."""
        self._reading = [_ReadView(self._store, job.slots, count) for job, count in reading]
        self._fresh = fresh

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store keys and values `[1, heads, tokens, dim]` of one layer."""
        self._layer = layer
        each_keys, each_values = keys[0].transpose(0, 1), values[0].transpose(0, 1)
        at = 0
        for view in self._shelves:
            view.new_keys[layer].copy_(each_keys[at : at + view.rows])
            view.new_values[layer].copy_(each_values[at : at + view.rows])
            at += view.rows
        if self._reading:
            self._store.keys[layer][self._fresh] = each_keys[at:]
            self._store.values[layer][self._fresh] = each_values[at:]
        return keys, values

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0

    def attend(self, query: torch.Tensor, scale: float | None) -> torch.Tensor:
        """Attention of query `[1, heads, tokens, dim]`; out: `[1, tokens, heads, dim]`."""
        layer, each = self._layer, query[0].transpose(0, 1)
        at, parts = 0, []
        for view in self._shelves:
            parts.append(view.attend(each[at : at + view.rows], layer, scale))
            at += view.rows
        for read in self._reading:
            parts.append(read.attend(query[:, :, at : at + read.count], layer, scale))
            at += read.count
        return (parts[0] if len(parts) == 1 else torch.cat(parts))[None]


class _ShelfView:
    """A shelf's filled columns, and the one now filled, layer by layer."""

    def __init__(self, shelf: Shelf) -> None:
        rows, end = len(shelf.jobs), shelf.end
        start = shelf.start
        self.rows = rows
        self._keys = shelf.keys[:, :rows, :, start : end + 1].unbind(0)
        self._values = shelf.values[:, :rows, :, start : end + 1].unbind(0)
        self.new_keys = shelf.keys[:, :rows, :, end].unbind(0)
        self.new_values = shelf.values[:, :rows, :, end].unbind(0)
        self._mask = shelf.mask[:rows, :, :, start : end + 1]

    def attend(self, query: torch.Tensor, layer: int, scale: float | None) -> torch.Tensor:
        """One token a row: query and out `[rows, heads, dim]`."""
        keys = self._keys[layer]
        # Query heads that share a key head attend as if they were tokens: no key is repeated.
        grouped = query.reshape(self.rows, keys.shape[1], -1, query.shape[2])
        out = scaled_dot_product_attention(
            grouped, keys, self._values[layer], attn_mask=self._mask, scale=scale
        )
        return out.reshape(self.rows, query.shape[1], -1)


class _ReadView:
    """A job's tokens in the store, the last `count` of them new."""

    def __init__(self, store: KvStore, slots: Slots, count: int) -> None:
        self.count = count
        self._store = store
        shape = store.shape
        known = len(slots) - count
        self._places = store.places(slots)
        self._mask = None
        if known:
            lowest = torch.finfo(shape.dtype).min
            self._mask = torch.full(
                (count, len(slots)), lowest, dtype=shape.dtype, device=shape.device
            ).triu_(known + 1)

    def attend(self, query: torch.Tensor, layer: int, scale: float | None) -> torch.Tensor:
        """Causal attention: query `[1, heads, count, dim]`, out `[count, heads, dim]`."""
        keys = self._all(self._store.keys[layer], query.shape[1])
        values = self._all(self._store.values[layer], query.shape[1])
        out = scaled_dot_product_attention(
            query, keys, values, attn_mask=self._mask, is_causal=self._mask is None, scale=scale
        )
        return out[0].transpose(0, 1)

    def _all(self, pool: torch.Tensor, heads: int) -> torch.Tensor:
        """`[1, heads, tokens, dim]`, without a copy where the slots are consecutive."""
        some = pool[self._places].transpose(0, 1)
        if some.shape[0] != heads:
            some = some.repeat_interleave(heads // some.shape[0], 0)
        return some[None]


def _attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    packed: _Packed | None = None,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    position_bias: torch.Tensor | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """What transformers calls in each layer."""
    if packed is None or any(odd is not None for odd in (softcap, s_aux, position_bias)):
        raise NotImplementedError("attention of a kind that is not packed")
    return packed.attend(query, scaling), None


AttentionInterface.register(ATTENTION, _attention)
