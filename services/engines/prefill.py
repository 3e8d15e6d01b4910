"""Reading given tokens: the KV of several jobs' next tokens, computed in one padded step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers.cache_utils import Cache

from services.engines.checkpoint import CausalModel
from services.engines.jobs import Job, ScoreJob
from services.engines.kv_store import KvStore


class Prefill:
    """One step: `counts[i]` tokens of `jobs[i]`, behind those it has computed.

    Keys lie as `[stored prefix, right-aligned | new tokens, right-aligned]`: so the last columns
    of the output are those that scores need, whatever the jobs' lengths.
    """

    def __init__(self, store: KvStore, jobs: Sequence[Job], counts: Sequence[int]) -> None:
        self._store = store
        self._jobs = jobs
        self._counts = counts
        self._width = max(counts)
        self._depth = max(job.computed for job in jobs)

    def run(self, model: CausalModel) -> None:
        """Compute the KV, store it, and take the scores that fall out."""
        store, jobs, counts = self._store, self._jobs, self._counts
        fresh = [store.take(count) for count in counts]
        for job, count, slots in zip(jobs, counts, fresh, strict=True):
            job.reserved -= count
            job.slots = np.concatenate([job.slots, slots])
        wanted = [_scores_in(job, n) for job, n in zip(jobs, counts, strict=True)]
        logits = model.logits(
            self._ids(), self._positions(), self._mask(), self._cache(fresh), max(1, *wanted)
        )
        for row, (job, count, scores) in enumerate(zip(jobs, counts, wanted, strict=True)):
            job.computed += count
            if isinstance(job, ScoreJob) and scores:
                tokens = job.ids[job.computed - scores + 1 : job.computed + 1]
                job.logprobs.append(_logprobs(logits[row, -scores:], tokens))

    def _ids(self) -> torch.Tensor:
        ids = np.zeros((len(self._jobs), self._width), np.int64)
        for row, (job, count) in enumerate(zip(self._jobs, self._counts, strict=True)):
            ids[row, self._width - count :] = job.ids[job.computed : job.computed + count]
        return self._tensor(ids)

    def _positions(self) -> torch.Tensor:
        last = np.array([j.computed + n for j, n in zip(self._jobs, self._counts, strict=True)])
        columns = np.arange(self._width) - self._width
        return self._tensor(np.maximum(last[:, None] + columns, 0))

    def _mask(self) -> torch.Tensor:
        """0 where a token sees a key, the lowest number where not: `[rows, 1, new, keys]`."""
        computed = np.array([job.computed for job in self._jobs])[:, None]
        counts = np.array(self._counts)[:, None]
        stored = np.arange(self._depth) >= self._depth - computed
        new = np.arange(self._width) >= self._width - counts
        causal = np.tri(self._width, dtype=bool)
        sees = np.concatenate(
            [
                np.broadcast_to(stored[:, None], (len(computed), self._width, self._depth)),
                new[:, None] & causal,
            ],
            axis=2,
        )
        dtype = self._store.shape.dtype
        hidden = self._tensor(~sees)[:, None]
        mask = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device)
        return mask.masked_fill_(hidden, torch.finfo(dtype).min)

    def _cache(self, fresh: Sequence[np.ndarray[Any, Any]]) -> _PrefillCache:
        prefix = np.zeros((len(self._jobs), self._depth), np.int64)
        real = np.zeros((len(self._jobs), self._width), bool)
        for row, (job, count) in enumerate(zip(self._jobs, self._counts, strict=True)):
            prefix[row, self._depth - job.computed :] = job.slots[: job.computed]
            real[row, self._width - count :] = True
        return _PrefillCache(
            self._store,
            self._tensor(prefix),
            self._tensor(np.concatenate(fresh)),
            None if real.all() else self._tensor(np.flatnonzero(real)),
        )

    def _tensor(self, array: np.ndarray[Any, Any]) -> torch.Tensor:
        return torch.from_numpy(array).to(self._store.shape.device)


class _PrefillCache(Cache):  # type: ignore[misc]
    """Hands each layer the stored prefixes before the new keys, and stores the new ones."""

    def __init__(
        self,
        store: KvStore,
        prefix: torch.Tensor,
        fresh: torch.Tensor,
        real: torch.Tensor | None,
    ) -> None:
        super().__init__(layers=[])
        self._store = store
        self._prefix = prefix
        self._fresh = fresh
        self._real = real

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
        tokens = new.transpose(1, 2).flatten(0, 1)
        pool.index_copy_(0, self._fresh, tokens if self._real is None else tokens[self._real])
        rows, depth = self._prefix.shape
        if depth == 0:
            return new
        stored = pool.index_select(0, self._prefix.flatten()).view(rows, depth, *pool.shape[1:])
        return torch.cat([stored.transpose(1, 2), new], dim=2)


def _scores_in(job: Job, count: int) -> int:
    """How many of the job's next `count` tokens predict a token to be rated."""
    if not isinstance(job, ScoreJob):
        return 0
    return max(0, job.computed + count - max(job.computed, job.start - 1))


def _logprobs(logits: torch.Tensor, tokens: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Natural logarithms of the probabilities of `tokens`, float32, of logits `[n, vocabulary]`."""
    exact = logits.float()
    chosen = torch.from_numpy(tokens.astype(np.int64)).to(exact.device)
    rated = exact.gather(1, chosen[:, None])[:, 0] - exact.logsumexp(1)
    return rated.cpu().numpy()
