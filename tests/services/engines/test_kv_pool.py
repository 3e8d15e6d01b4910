"""The pool of a KV store: what it keeps, and that it is bounded."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from services.engines.kv_store import KvShape, Pool

SHAPE = KvShape(1, 1, 8, 8, torch.float32, torch.device("cpu"))


def test_memory_given_back_is_lent_again() -> None:
    pool = Pool(SHAPE)
    memory = pool.take(1000)
    memory.fill_(3)
    pool.give(memory)
    assert pool.take(900).data_ptr() == memory.data_ptr()  # sizes are rounded


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5000)), max_size=60))
def test_it_never_holds_more_than_was_once_in_use(steps: list[tuple[bool, int]]) -> None:
    pool, lent, most = Pool(SHAPE), list[torch.Tensor](), 0
    for takes, number in steps:
        if takes:
            lent.append(pool.take(number))
            assert len(lent[-1]) >= number
        elif lent:
            pool.give(lent.pop(number % len(lent)))
        used = sum(len(memory) for memory in lent)
        most = max(most, used)
        assert pool.lent == used
        kept = sum(len(memory) for free in pool._free.values() for memory in free)
        assert used + kept <= most
