"""A job's tokens that are read see its tokens up to themselves, wherever in the store these lie."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from services.engines.jobs import ScoreJob
from services.engines.kv_store import KvShape, KvStore
from services.engines.read_view import read_together

SCALE = 0.5


def exact(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, before: int
) -> torch.Tensor:
    """Token by token, head by head: query `[new, heads, dim]` behind `before` tokens."""
    shared = query.shape[1] // keys.shape[1]
    out = torch.empty(*query.shape[:2], values.shape[2])
    for token, head in np.ndindex(*query.shape[:2]):
        seen = slice(0, before + token + 1)
        products = keys[seen, head // shared] @ query[token, head]
        out[token, head] = torch.softmax(products * SCALE, 0) @ values[seen, head // shared]
    return out


@pytest.mark.parametrize("scattered", [False, True])
@pytest.mark.parametrize("query_heads", [2, 6])
@pytest.mark.parametrize("lengths", [[(9, 9)], [(40, 7)], [(40, 1)], [(30, 7), (33, 4)]], ids=str)
def test_it_is_the_attention_of_each_token_alone(
    lengths: list[tuple[int, int]], query_heads: int, scattered: bool
) -> None:
    store = KvStore(KvShape(1, 2, 4, 3, torch.float32, torch.device("cpu")), 128)
    torch.manual_seed(1)
    store.keys.normal_()
    store.values.normal_()
    reading, at = [], 5
    for length, new in lengths:
        slots = np.arange(at, at + length)
        if scattered:
            np.random.default_rng(2).shuffle(slots)
        reading.append((ScoreJob(chain="", ids=np.zeros(1, np.int32), slots=slots, start=1), new))
        at += length
    writing = 3
    query = torch.randn(writing + sum(new for _, new in lengths), query_heads, 4)

    views, order = read_together(store, reading, writing)
    seen = torch.cat(
        [torch.zeros(writing, query_heads, 3)] + [v.attend(query, 0, SCALE) for v in views]
    )
    seen = seen if order is None else seen[order]
    lent = store.pool.lent
    for view in views:
        view.release()

    begin = writing
    for job, new in reading:
        own = slice(begin, begin + new)
        keys, values = store.keys[0][job.slots], store.values[0][job.slots]
        alone = exact(query[own], keys, values, len(job.slots) - new)
        torch.testing.assert_close(seen[own], alone, rtol=1e-5, atol=1e-6)
        begin += new
    assert store.pool.lent == 0
    assert (lent == 0) == (len(lengths) == 1 and not scattered)
