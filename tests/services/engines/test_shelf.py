"""Shelves keep each row's KV whatever comes, goes and moves; what is masked stays a number."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from atts_core.engine import Sampling
from services.engines import kv_store
from services.engines.jobs import GenerateJob
from services.engines.kv_store import KvShape, KvStore
from services.engines.shelf import Block, Shelf

SHAPE = KvShape(2, 2, 4, 3, torch.float32, torch.device("cpu"))


class Kept:
    """Two shelves, and what each of their rows must hold."""

    def __init__(self) -> None:
        self.store = KvStore(SHAPE, 4096)
        self.shelves = [Shelf(self.store), Shelf(self.store)]
        self.rows: dict[GenerateJob, torch.Tensor] = {}
        self._drawn = 0
        self._largest: dict[Block, tuple[int, int]] = {}

    def join(self, length: int, on: int) -> None:
        self.store.reserved += length
        slots = self.store.take(length)
        self.store.keys[:, slots] = self._numbers(2, length, 2, 4)
        self.store.values[:, slots] = 0
        job = GenerateJob(
            chain="",
            ids=np.zeros(length + 1, np.int32),
            slots=slots,
            max_tokens=1,
            sampling=Sampling(0.0),
            draws=[],
            stops=None,
        )
        self.rows[job] = self.store.keys[:, slots].transpose(1, 2)
        self.shelves[on].join(job)

    def write(self) -> None:
        """A column more on every shelf."""
        for shelf in self.shelves:
            shelf.make_column()
            for row, job in enumerate(shelf.jobs):
                keys = self._numbers(2, 2, 1, 4)
                shelf.new.keys[:, row, :, shelf.end - shelf.new.first] = keys[:, :, 0]
                self.rows[job] = torch.cat([self.rows[job], keys], 2)
            shelf.end += 1

    def move(self) -> None:
        """A row changes its shelf, where there is one."""
        for mine, other in (self.shelves, self.shelves[::-1]):
            if other.jobs:
                mine.take_over(other, 0)
                return

    def leave(self, count: int) -> None:
        """A row ends; the KV of its last `count` tokens must then be in the store."""
        for shelf in self.shelves:
            if shelf.jobs:
                job = shelf.jobs[-1]
                kept = self.rows.pop(job)
                count = min(count, kept.shape[2])
                self.store.reserved += count
                slots = self.store.take(count)
                shelf.leave(job, slots)
                if count:
                    stored = self.store.keys[:, slots].transpose(1, 2)
                    assert torch.equal(stored, kept[:, :, -count:])
                return

    def check_memory(self) -> None:
        """What docs/engines.md says: by the most rows and tokens since a shelf last moved."""
        for shelf in self.shelves:
            most, widest = self._largest.get(shelf.new, (0, 0))
            rows, width = max(most, len(shelf.jobs)), max(widest, shelf.width)
            self._largest[shelf.new] = rows, width
            wanted = (rows + max(4, rows // 2)) * (width + max(64, width // 2))
            token = SHAPE.layers * SHAPE.heads * (SHAPE.key_dim + SHAPE.value_dim)
            taken = sum(len(one) for block in {shelf.old, shelf.new} for one in block._memory)
            assert taken <= 1.5 * wanted * token

    def check(self) -> None:
        self.check_memory()
        for shelf in self.shelves:
            for block in {shelf.old, shelf.new}:
                # What is masked is KV too, or nothing: else it would outweigh the mask.
                assert block.keys.numel() == 0 or 0 <= block.keys.min() <= block.keys.max() < 1
            for row, job in enumerate(shelf.jobs):
                parts = list(shelf.blocks(range(shelf.end - shelf.lengths()[row], shelf.end)))
                found = torch.cat([block.keys[:, row, :, part] for block, part in parts], 2)
                assert torch.equal(found, self.rows[job])
                assert all((block.mask[row, :, :, part] == 0).all() for block, part in parts)
                seen = sum(int((block.mask[row, 0] == 0).sum()) for block in {shelf.old, shelf.new})
                free = shelf.new.first + shelf.new.columns - shelf.end
                assert seen == shelf.lengths()[row] + free

    def _numbers(self, *sizes: int) -> torch.Tensor:
        self._drawn += 1
        return torch.rand(sizes, generator=torch.Generator().manual_seed(self._drawn))


MOVES = st.one_of(
    st.tuples(st.just("join"), st.integers(1, 90), st.integers(0, 1)),
    st.tuples(st.just("leave"), st.integers(0, 5)),
    st.tuples(st.just("write")),
    st.tuples(st.just("move")),
)


@pytest.mark.parametrize("cached", [0, 1 << 40], ids=["without gaps", "with gaps"])
@settings(deadline=None)
@given(st.lists(MOVES, max_size=60))
def test_each_row_keeps_its_tokens(cached: int, moves: list[tuple[str, int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kv_store, "_CACHED", cached)
        kept = Kept()
        for name, *arguments in moves:
            getattr(kept, name)(*arguments)
            kept.check()


def test_what_a_failed_row_leaves_behind_is_no_number_for_nobody() -> None:
    kept = Kept()
    kept.join(40, 0)
    shelf = kept.shelves[0]
    for block in (shelf.old, shelf.new):
        block.keys[:, 0], block.values[:, 0] = torch.nan, torch.inf
    shelf.leave(shelf.jobs[0], np.empty(0, np.int64))
    kept.join(3, 0)
    for block in (shelf.old, shelf.new):
        assert block.keys.isfinite().all()
        assert block.values.isfinite().all()


def test_a_long_row_does_not_grow_beside_the_places_of_many_that_have_left() -> None:
    kept = Kept()
    for _ in range(20):
        kept.join(10, 0)
        kept.check()
    for _ in range(19):
        kept.leave(0)
    for _ in range(150):
        kept.write()
        kept.check()
    assert len(kept.shelves[0].new.mask) <= 1 + 4


def test_memory_is_used_again_and_given_up_in_the_end() -> None:
    kept = Kept()
    kept.join(40, 0)
    lent = kept.store.pool.lent
    kept.shelves[0].release()
    assert kept.store.pool.lent < lent
    kept.shelves[0] = Shelf(kept.store)
    kept.join(40, 0)
    assert kept.store.pool.lent == lent


def test_what_hides_a_column_is_never_taken_for_a_key() -> None:
    """A mask's number, as a key, would outweigh any mask."""
    kept = Kept()
    kept.join(40, 0)
    kept.join(3, 0)
    kept.shelves[0].release()
    free = [one for some in kept.store.pool._free.values() for one in some if len(one)]
    assert free
    assert all(memory.abs().max() < 1 for memory in free)
