"""One step of computation, in either of two arrangements: packed, or padded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from services.engines.jobs import GenerateJob, Job, ScoreJob
from services.engines.kv_store import KvStore
from services.engines.prefix_tree import Slots
from services.engines.sampling import Sampler

Portion: TypeAlias = Sequence[tuple[Job, int]]
"""Jobs and how many of their next tokens are read in a step."""


class Forward(Protocol):
    """The sequences being written, and the step that advances them and reads given tokens."""

    def jobs(self) -> list[GenerateJob]:
        """The sequences being written."""
        ...

    def fits(self, job: GenerateJob) -> bool:
        """Whether there is room for one more; always, when there is no other."""
        ...

    def join(self, job: GenerateJob) -> None:
        """Begin to write behind a job's ids; all but the last of them have KV in the store."""
        ...

    def leave(self, job: GenerateJob, slots: Slots) -> None:
        """Stop writing; the KV of the last `len(slots)` tokens goes to the store."""
        ...

    def step(self, reading: Portion) -> list[tuple[GenerateJob, int]]:
        """Read a portion of given tokens and write one token in every sequence; -1: none."""
        ...


class Drawn:
    """The last tokens of the sequences being written, and the drawing of their next."""

    def __init__(self, jobs: list[GenerateJob], lengths: list[int], device: torch.device) -> None:
        last = [job.written[-1] if job.written else int(job.ids[-1]) for job in jobs]
        self.ids = torch.from_numpy(np.array(last, np.int64)).to(device)
        self.positions = torch.from_numpy(np.array(lengths, np.int64)).to(device)
        self._jobs = list(jobs)
        self._telling = [row for row, job in enumerate(jobs) if job.top_logprobs]
        self._sampler = Sampler([job.sampling for job in jobs], device)

    def draw(self, logits: torch.Tensor) -> list[tuple[GenerateJob, int]]:
        """The next tokens, from logits `[rows, vocabulary]`; they become the last ones."""
        if not self._jobs:
            return []
        uniform = [job.draws[len(job.written)] for job in self._jobs]
        self.ids = self._sampler.draw(logits, uniform)
        self.positions += 1
        beyond = logits.shape[-1]
        drawn = [-1 if token == beyond else token for token in self.ids.tolist()]
        if self._telling:
            self._tell([row for row in self._telling if drawn[row] >= 0], logits)
        return list(zip(self._jobs, drawn, strict=True))

    def _tell(self, rows: list[int], logits: torch.Tensor) -> None:
        """Note how likely what was drawn is, and how sure the model was."""
        told = [self._jobs[row] for row in rows]
        logprobs = torch.log_softmax(logits[rows].float(), -1)
        chosen = logprobs.gather(1, self.ids[rows][:, None])[:, 0].tolist()
        most = max((job.top_logprobs for job in told), default=1)
        likeliest = logprobs.topk(most, -1).values.cpu().numpy()
        for job, logprob, top in zip(told, chosen, likeliest, strict=True):
            job.logprobs.append(logprob)
            job.confidences.append(-float(top[: job.top_logprobs].mean()))


def take_slots(store: KvStore, reading: Portion) -> slice | torch.Tensor:
    """Give the jobs slots for the tokens they read; returns an index of the new ones, in order."""
    taken = [np.empty(0, np.int64)]
    for job, count in reading:
        slots = store.take(count)
        job.reserved -= count
        job.slots = np.concatenate([job.slots, slots])
        taken.append(slots)
    return store.places(np.concatenate(taken))


def scores_in(job: Job, count: int) -> int:
    """How many of the job's next `count` tokens predict a token to be rated."""
    if not isinstance(job, ScoreJob):
        return 0
    return max(0, job.computed + count - max(job.computed, job.start - 1))


def rated_by(job: Job, computed: int, scores: int) -> npt.NDArray[np.int32]:
    """The tokens that the last `scores` of its first `computed` tokens predict."""
    return job.ids[computed - scores + 1 : computed + 1]


def logprobs(logits: torch.Tensor, tokens: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
    """Log-probabilities (nats) of `tokens` by logits `[n, vocabulary]`."""
    exact = logits.float()
    chosen = torch.from_numpy(tokens.astype(np.int64)).to(exact.device)
    rated = exact.gather(1, chosen[:, None])[:, 0] - exact.logsumexp(1)
    numbers: npt.NDArray[np.float32] = rated.cpu().numpy()
    return numbers
