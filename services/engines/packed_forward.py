"""All of a step's tokens in one row, without padding: for models whose attention can be replaced.

The row holds the last token of every sequence being written, then the given tokens that are read.
Only attention knows whose token is whose: sequences of like length attend together, from their
shelf, and each job that reads attends from its place in the store.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

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
from services.engines.read_view import Reading, read_together
from services.engines.shelf import Block, Shelf

ATTENTION = "atts_packed"
_CALL = {"cpu": 256 << 10}
"""Bytes of keys and values a layer that are read in the time which one more call of attention
costs, by device; measured on one core."""
_CALL_ELSEWHERE = 16 << 20
_HOT = 4
"""How many times more of them are read where a CPU's cache holds them all."""


class Decoder(Protocol):
    """A model's pass over a step's tokens."""

    def __call__(
        self,
        ids: torch.Tensor,
        places: torch.Tensor,
        attention: _Packed,
        keep: torch.Tensor | None,
    ) -> torch.Tensor:
        """Logits `[tokens, vocabulary]` of the tokens `keep` of `ids`, or of all."""
        ...


def by_modules(model: CausalModel) -> Decoder:
    """The pass by transformers' own modules, with their attention replaced."""

    def decode(
        ids: torch.Tensor, places: torch.Tensor, attention: _Packed, keep: torch.Tensor | None
    ) -> torch.Tensor:
        cache, kept = _ModulesCache(attention), 0 if keep is None else keep
        return model.logits(ids[None], places[None], None, cache, kept, packed=cache)[0]

    return decode


class PackedForward:
    """A `Forward` that computes no padding and runs the model once a step."""

    def __init__(self, decoder: Decoder, store: KvStore) -> None:
        self._decoder = decoder
        self._store = store
        self._shelves: list[Shelf] = []
        shape = store.shape
        token = shape.heads * (shape.key_dim + shape.value_dim) * shape.dtype.itemsize
        self._call = _CALL.get(shape.device.type, _CALL_ELSEWHERE) / token
        self._drawn: Drawn | None = None

    def jobs(self) -> list[GenerateJob]:
        return [job for shelf in self._shelves for job in shelf.jobs]

    def fits(self, job: GenerateJob) -> bool:
        jobs = self.jobs()
        return not jobs or job.longest + sum(j.longest for j in jobs) <= self._store.tokens

    def join(self, job: GenerateJob) -> None:
        length = job.computed
        shelf = min(self._shelves, key=lambda shelf: _padding(shelf, length), default=None)
        if shelf is None or _padding(shelf, length) > self._shelf_cost:
            shelf = self._new_shelf()
        shelf.join(job)
        self._split(shelf, length)
        self._drawn = None

    def leave(self, job: GenerateJob, slots: Slots) -> None:
        shelf = next(shelf for shelf in self._shelves if job in shelf.jobs)
        shelf.leave(job, slots)
        self._merge(shelf)
        self._drawn = None

    def step(self, reading: Portion) -> list[tuple[GenerateJob, int]]:
        shelves = self._shelves
        for shelf in shelves:
            shelf.make_column()
        if not shelves and not reading:
            return []
        if self._drawn is None:
            lengths = [length for shelf in shelves for length in shelf.lengths()]
            self._drawn = Drawn(self.jobs(), lengths, self._store.shape.device)
        drawn, rows = self._drawn, len(self._drawn.ids)
        if reading:
            logits = self._read(shelves, reading, drawn)
        else:
            packed = _Packed(self._store, shelves)
            logits = self._decoder(drawn.ids, drawn.positions, packed, None)
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
        logits = self._decoder(
            torch.cat([drawn.ids, self._tensor(given)]),
            torch.cat([drawn.positions, self._tensor(places)]),
            packed,
            self._wanted(rows, reading),
        )
        packed.release()
        self._rate(reading, logits[rows:])
        return logits

    @property
    def _shelf_cost(self) -> float:
        """Tokens of padding that cost as much as one more shelf."""
        return self._call * (1 if self._store.pool.exceeds_cache else _HOT)

    def _new_shelf(self) -> Shelf:
        self._shelves.append(Shelf(self._store))
        return self._shelves[-1]

    def _split(self, shelf: Shelf, length: int) -> None:
        """Give the rows of `length` tokens and less a shelf of their own, where that pays."""
        rows = [row for row, own in enumerate(shelf.lengths()) if own <= length]
        if len(rows) * (shelf.width - length) > 2 * self._shelf_cost:
            apart = self._new_shelf()
            apart.make_room(len(rows), length)
            for row in reversed(rows):
                apart.take_over(shelf, row)

    def _merge(self, shelf: Shelf) -> None:
        """Put the rows of a shelf that hardly pays any more among longer ones."""
        wider = [other for other in self._shelves if other is not shelf]
        wider = [other for other in wider if other.width >= shelf.width]
        if wider and shelf.jobs:
            nearest = min(wider, key=lambda other: other.width)
            if len(shelf.jobs) * (nearest.width - shelf.width) < self._shelf_cost / 2:
                while shelf.jobs:
                    nearest.take_over(shelf, len(shelf.jobs) - 1)
        if not shelf.jobs:
            self._shelves.remove(shelf)
            shelf.release()

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


def _padding(shelf: Shelf, length: int) -> int:
    """Columns that are read for nothing a step when a row of `length` tokens joins."""
    wider = length - shelf.width
    return wider * len(shelf.jobs) if wider > 0 else -wider


class _Packed:
    """A step's keys and values: takes in each layer's new ones, then attends to all."""

    def __init__(self, store: KvStore, shelves: Sequence[Shelf]) -> None:
        self._store = store
        self._shelves = [_ShelfView(shelf, plain=store.shape.single_on_cpu) for shelf in shelves]
        self._writing = sum(view.rows for view in self._shelves)
        self._reading: list[Reading] = []
        self._order: torch.Tensor | None = None
        self._fresh: slice | torch.Tensor = slice(0)

    def read(self, reading: Portion, fresh: slice | torch.Tensor) -> None:
        """Have the tokens of `reading` behind the others; their KV goes to `fresh`."""
        self._reading, self._order = read_together(self._store, reading, self._writing)
        self._fresh = fresh

    def release(self) -> None:
        """Give up what the step has needed."""
        for view in self._reading:
            view.release()

    def store(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Take in a layer's new keys and values `[tokens, heads, dim]`."""
        at = 0
        for view in self._shelves:
            view.new_keys[layer].copy_(keys[at : at + view.rows])
            view.new_values[layer].copy_(values[at : at + view.rows])
            at += view.rows
        if self._reading:
            self._store.keys[layer][self._fresh] = keys[at:]
            self._store.values[layer][self._fresh] = values[at:]

    def attend(self, layer: int, query: torch.Tensor, scale: float | None) -> torch.Tensor:
        """Attention of a layer's query `[tokens, heads, dim]`, in the same shape."""
        at, parts = 0, []
        for view in self._shelves:
            parts.append(view.attend(query[at : at + view.rows], layer, scale))
            at += view.rows
        parts += [view.attend(query, layer, scale) for view in self._reading]
        out = parts[0] if len(parts) == 1 else torch.cat(parts)
        return out if self._order is None else out.index_select(0, self._order)


class _ModulesCache(Cache):  # type: ignore[misc]
    """How transformers' modules reach a step's keys and values: see `_attention`."""

    def __init__(self, packed: _Packed) -> None:
        super().__init__(layers=[])
        self._packed = packed
        self._layer = 0

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store keys and values `[1, heads, tokens, dim]` of one layer."""
        self._layer = layer
        self._packed.store(layer, keys[0].transpose(0, 1), values[0].transpose(0, 1))
        return keys, values

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0

    def attend(self, query: torch.Tensor, scale: float | None) -> torch.Tensor:
        """Attention of query `[1, heads, tokens, dim]`; out: `[1, tokens, heads, dim]`."""
        return self._packed.attend(self._layer, query[0].transpose(0, 1), scale)[None]


class _ShelfView:
    """A shelf's filled columns, and the one now filled, layer by layer."""

    def __init__(self, shelf: Shelf, *, plain: bool) -> None:
        """`plain`: attend by plain products."""
        self.rows = rows = len(shelf.jobs)
        old, new = shelf.old, shelf.new
        # Of the old columns all are read, although the first may be nobody's any more, unless
        # these are many: reading without gaps is worth more.
        begin = shelf.start if shelf.start > old.columns // 3 else 0
        filled = begin < old.columns
        self._old = _Part(old, rows, slice(begin, old.columns)) if filled else None
        here = shelf.end - new.first
        self._new = _Part(new, rows, slice(max(0, begin - new.first), here + 1))
        self._plain = plain
        self.new_keys = new.keys[:, :rows, :, here].unbind(0)
        self.new_values = new.values[:, :rows, :, here].unbind(0)

    def attend(self, query: torch.Tensor, layer: int, scale: float | None) -> torch.Tensor:
        """One token a row: query and out `[rows, heads, dim]`."""
        old, new = self._old, self._new
        # Query heads that share a key head attend as if they were tokens: no key is repeated.
        grouped = query.reshape(len(new.mask), -1, query.shape[2])
        if not self._plain:
            keys, values = new.keys[layer][None], new.values[layer][None]
            out = scaled_dot_product_attention(
                grouped[None], keys, values, attn_mask=new.mask[None], scale=scale
            )
            return out.view(self.rows, -1, out.shape[3])
        # For one token a row faster on a CPU, by a fourth, than what is made for many.
        scale = scale or query.shape[2] ** -0.5
        scores = torch.baddbmm(new.mask, grouped, new.keys[layer].transpose(1, 2), alpha=scale)
        if old is None:
            out = torch.bmm(torch.softmax(scores, -1), new.values[layer])
        else:
            before = torch.baddbmm(old.mask, grouped, old.keys[layer].transpose(1, 2), alpha=scale)
            weights = torch.softmax(torch.cat([before, scores], 2), -1)
            count = before.shape[2]
            out = torch.bmm(weights[:, :, :count], old.values[layer])
            out.baddbmm_(weights[:, :, count:], new.values[layer])
        return out.view(self.rows, -1, out.shape[2])


class _Part:
    """Some columns of a block, its rows and heads as one dimension."""

    def __init__(self, block: Block, rows: int, columns: slice) -> None:
        heads = rows * block.keys.shape[2]
        self.keys = block.flat_keys[:, :heads, columns].unbind(0)
        self.values = block.flat_values[:, :heads, columns].unbind(0)
        self.mask = block.flat_mask[:heads, :, columns]


def _attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    packed: _ModulesCache | None = None,
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
