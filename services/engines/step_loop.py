"""The scheduler: which requests take part in which step.

A step takes in what fits (scores first: they are short and a draft waits for each), reads a
portion of given tokens and writes one token in every running sequence, in one computation, and
lets go what is finished. A request may come or go at every step.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import TypeAlias

import numpy as np

from atts_core.engine import Aborted
from atts_core.errors import EngineError
from services.engines.forward import Forward
from services.engines.jobs import GenerateJob, Job, ScoreJob
from services.engines.kv_store import KvStore
from services.engines.prefix_tree import Slots

Finished: TypeAlias = tuple[Job, EngineError | None]
_SHARED = 16
"""Tokens two requests must both lack for one to wait until the other has computed them."""


@dataclass(slots=True)
class Counters:
    """Totals since the start."""

    steps: int = 0
    step_seconds: float = 0.0
    batched_sequences: int = 0
    """Sequences that took part, over all steps."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    written_tokens: int = 0
    rated_tokens: int = 0
    aborted_tokens: int = 0
    """Of those written, in requests that were cancelled."""


class StepLoop:
    """The jobs of one engine and the steps that serve them. Belongs to the step thread."""

    def __init__(
        self,
        forward: Forward,
        store: KvStore,
        *,
        name: str,
        end: frozenset[int],
        max_batch: int,
        prefill_tokens: int,
    ) -> None:
        self.store = store
        self.counters = Counters()
        self.aborted = Aborted()
        self._name = name
        self._end = end
        self._max_batch = max_batch
        self._prefill_tokens = prefill_tokens
        self._scores: deque[Job] = deque()
        self._generates: deque[Job] = deque()
        self._reading: list[Job] = []
        self._ready: deque[GenerateJob] = deque()
        self._writing = 0
        self._forward = forward
        self._finished: list[Finished] = []

    @property
    def running(self) -> int:
        """Jobs under way; like `waiting`, it may be read from other threads."""
        return len(self._reading) + len(self._ready) + self._writing

    @property
    def waiting(self) -> int:
        return len(self._scores) + len(self._generates)

    @property
    def busy(self) -> bool:
        return self.running + self.waiting > 0

    def add(self, job: Job) -> None:
        """Queue a job; it must fit the context and the KV budget on its own."""
        (self._scores if isinstance(job, ScoreJob) else self._generates).append(job)

    def cancel(self, job: Job) -> None:
        """Take a job out, wherever it is; one that has finished is left alone."""
        for queue in (self._scores, self._generates):
            if job in queue:
                queue.remove(job)
                return
        if job in self._reading:
            self._reading.remove(job)
        elif isinstance(job, GenerateJob) and job in self._ready:
            self._ready.remove(job)
        elif isinstance(job, GenerateJob) and job in self._forward.jobs():
            self._stop_writing(job, np.empty(0, np.int64))
        else:
            return
        cost = job.cost()
        self.counters.aborted_tokens += cost.written_tokens
        self.aborted.note(job.chain, cost)
        self._let_go(job)

    def all_jobs(self) -> list[Job]:
        """Every job not finished."""
        return [
            *self._scores,
            *self._generates,
            *self._reading,
            *self._ready,
            *self._forward.jobs(),
        ]

    def forget(self) -> None:
        """Empty the prefix cache and the counters; nothing may be running."""
        self.store.give(self.store.tree.evict(self.store.tree.size))
        self.counters = Counters()

    def step(self) -> list[Finished]:
        """Advance every running job; returns those that are done."""
        began = monotonic()
        self.counters.steps += 1
        self._admit()
        while self._ready and self._forward.fits(self._ready[0]):
            self._forward.join(self._ready.popleft())
            self._writing += 1
        portion = self._portion()
        self.counters.batched_sequences += len(portion) + self._writing
        end = self._end
        for job, token in self._forward.step(portion):
            if token < 0:
                self._fail(job)
                continue
            self.counters.written_tokens += 1
            job.written.append(token)
            if (
                token in end
                or job.stops is not None
                or token in job.stop_ids
                or len(job.written) == job.max_tokens
            ):
                self._end_if_done(job, token)
        for read in [job for job in self._reading if job.computed == job.to_compute]:
            self._has_read(read)
        finished, self._finished = self._finished, []
        self.counters.step_seconds += monotonic() - began
        return finished

    # ------------------------------------------------------------------ admitting

    def _admit(self) -> None:
        if self._admit_from(self._scores, lambda job: True):
            self._admit_from(self._generates, self._has_row)

    def _admit_from(self, queue: deque[Job], allowed: Callable[[Job], bool]) -> bool:
        """Start what fits, in order of arrival; whether nothing is left for want of room."""
        for job in list(queue):
            if self.running >= 2 * self._max_batch or not allowed(job):
                return False
            node, length = self.store.tree.find(job.ids, self._reusable(job))
            if self._computed_elsewhere(job, length):
                continue
            fresh = len(job.ids) - 1 - length
            if isinstance(job, GenerateJob):
                fresh += job.max_tokens
            if not self.store.admit(node, fresh):
                return False
            queue.remove(job)
            job.node, job.reserved, job.began = node, fresh, monotonic()
            job.computed = job.cached = job.stored = length
            job.slots = self.store.tree.path(node)
            self.counters.prompt_tokens += len(job.ids)
            self.counters.cached_tokens += length
            if isinstance(job, GenerateJob) and job.computed == job.to_compute:
                self._ready.append(job)
            else:
                self._reading.append(job)
        return True

    def _has_row(self, job: Job) -> bool:
        assert isinstance(job, GenerateJob)
        writing = sum(isinstance(other, GenerateJob) for other in self._reading)
        return writing + len(self._ready) + self._writing < self._max_batch

    def _reusable(self, job: Job) -> int:
        """A score needs the output of the token before its first: that one is read again."""
        return job.start - 1 if isinstance(job, ScoreJob) else job.to_compute

    def _computed_elsewhere(self, job: Job, length: int) -> bool:
        """Whether a job being read computes tokens that this one lacks too."""
        for other in self._reading:
            until = min(length + _SHARED, self._reusable(job), other.to_compute)
            if until > length and np.array_equal(job.ids[:until], other.ids[:until]):
                return True
        return False

    # ------------------------------------------------------------------ reading, writing

    def _portion(self) -> list[tuple[Job, int]]:
        """What is read in this step: scores first, then in order of arrival."""
        portion, room = [], self._prefill_tokens
        for job in sorted(self._reading, key=lambda job: isinstance(job, GenerateJob)):
            count = min(job.to_compute - job.computed, room)
            if count:
                portion.append((job, count))
                room -= count
        return portion

    def _has_read(self, job: Job) -> None:
        """All that was given has KV: begin to write, or the scores are complete."""
        self._reading.remove(job)
        self._keep(job, job.ids[: job.computed])
        if isinstance(job, GenerateJob):
            self._ready.append(job)
        elif isinstance(job, ScoreJob):
            self._let_go(job)
            self._finished.append((job, None))
            self.counters.rated_tokens += len(job.ids) - job.start

    def _fail(self, job: GenerateJob) -> None:
        """Let a job go in which no token could be drawn."""
        self._stop_writing(job, np.empty(0, np.int64))
        self._let_go(job)
        reason = f"{self._name}, {job.chain}: the model's output is not finite"
        self._finished.append((job, EngineError(reason)))

    def _end_if_done(self, job: GenerateJob, token: int) -> None:
        """Let a job go of which `token` was the last."""
        if token in job.stop_ids:
            job.finish = "stop"
        elif token in self._end:
            job.finish = "eos"
        elif job.stops is not None and job.stops.end(job.written):
            job.finish = "stop"
        elif len(job.written) == job.max_tokens:
            job.finish = "length"
        else:
            return
        # The last token was never read: it has no KV.
        slots = self.store.take(len(job.written))
        job.reserved -= len(slots)
        self._stop_writing(job, slots)
        job.slots = np.concatenate([job.slots, slots])
        self._keep(job, np.concatenate([job.ids, np.array(job.written[:-1], np.int32)]))
        self._let_go(job)
        self._finished.append((job, None))

    def _stop_writing(self, job: GenerateJob, slots: Slots) -> None:
        self._forward.leave(job, slots)
        self._writing -= 1

    # ------------------------------------------------------------------ KV

    def _keep(self, job: Job, ids: np.ndarray[tuple[int], np.dtype[np.int32]]) -> None:
        """Remember the KV of `ids`, at the job's slots, for whoever comes later."""
        assert job.node is not None
        node, spare = self.store.tree.insert(ids, job.slots)
        self.store.tree.hold(node)
        self.store.tree.release(job.node)
        # Another job may have stored the same tokens meanwhile: then ours are spare.
        self.store.give(spare[job.stored :])
        job.node = node
        job.slots = self.store.tree.path(node)
        job.stored = len(ids)

    def _let_go(self, job: Job) -> None:
        """Give up what the job holds of the KV store."""
        assert job.node is not None
        self.store.tree.release(job.node)
        self.store.give(job.slots[job.stored :])
        self.store.unreserve(job.reserved)
        job.node, job.reserved = None, 0
