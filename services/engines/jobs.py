"""What the step loop works on: requests with their progress."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic

import numpy as np
import numpy.typing as npt

from atts_core.engine import Sampling
from atts_core.types import EngineCost, Finish, Ids
from services.engines.prefix_tree import Node, Slots
from services.engines.stops import StopStrings


@dataclass(eq=False, slots=True, kw_only=True)
class Job:
    """A request inside the engine.

    `ids` are all tokens given; of these, `computed` have KV, at `slots`. The first `stored` slots
    belong to the prefix tree, whose path to `node` the job holds; the others are its own, and
    `reserved` more are set aside for it.
    """

    chain: str
    ids: Ids
    computed: int = 0
    cached: int = 0
    stored: int = 0
    slots: Slots = field(default_factory=lambda: np.empty(0, np.int64))
    node: Node | None = None
    reserved: int = 0
    arrived: float = field(default_factory=monotonic)
    began: float | None = None

    @property
    def to_compute(self) -> int:
        """How many of `ids` must have KV before the job can go on."""
        return len(self.ids) - 1

    @property
    def done(self) -> bool:
        """Whether its result is complete."""
        return self.computed == self.to_compute

    def cost(self) -> EngineCost:
        now = monotonic()
        began = now if self.began is None else self.began
        return EngineCost(
            queued=began - self.arrived,
            busy=now - began,
            prompt_tokens=len(self.ids),
            cached_tokens=self.cached,
            written_tokens=len(self.written) if isinstance(self, GenerateJob) else 0,
            rated_tokens=len(self.ids) - self.start
            if isinstance(self, ScoreJob) and self.done
            else 0,
        )


@dataclass(eq=False, slots=True, kw_only=True)
class GenerateJob(Job):
    """Write at most `max_tokens` behind `ids`; `draws` has a uniform number for each.

    With `top_logprobs`, each written token's log-probability and confidence are noted, in nats:
    see `atts_core.types.Likelihoods`.
    """

    max_tokens: int
    sampling: Sampling
    draws: list[float]
    stops: StopStrings | None
    stop_ids: frozenset[int] = frozenset()
    top_logprobs: int = 0
    logprobs: list[float] = field(default_factory=list)
    confidences: list[float] = field(default_factory=list)
    written: list[int] = field(default_factory=list)
    finish: Finish | None = None

    @property
    def done(self) -> bool:
        return self.finish is not None

    @property
    def longest(self) -> int:
        """Tokens it has in the end at most."""
        return len(self.ids) + self.max_tokens


@dataclass(eq=False, slots=True, kw_only=True)
class ScoreJob(Job):
    """Rate `ids[start:]`, in nats; `start` is at least 1."""

    start: int
    logprobs: list[npt.NDArray[np.float32]] = field(default_factory=list)
