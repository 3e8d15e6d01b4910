"""What vLLM last said of itself."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any


class Status:
    """A logger of vLLM's that keeps the last figures: see `vllm.v1.metrics.loggers`.

    vLLM tells of a step when it is over, not when it began: a step is taken to last from the one
    before it, or from the request that woke an idle engine (`begins`). Idle time is never a step's.
    """

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self.running = 0
        self.waiting = 0
        self.kv_usage = 0.0
        self.preempted = 0
        self.steps = 0
        self.step_seconds = 0.0
        self.batched = 0
        """Sequences of all steps."""
        self._now = now
        self._busy_since: float | None = None
        """When the step under way began, as far as is known; None: the engine is idle."""

    def begins(self) -> None:
        """A request was given to vLLM."""
        if self._busy_since is None:
            self._busy_since = self._now()

    def rests(self) -> None:
        """Nobody waits for a request any more."""
        self._busy_since = None

    def __call__(self, config: Any, engine_index: int = 0) -> Status:
        """vLLM makes its loggers itself; this one exists already."""
        return self

    def record(
        self,
        scheduler_stats: Any,
        iteration_stats: Any,
        mm_cache_stats: Any = None,
        engine_idx: int = 0,
    ) -> None:
        if scheduler_stats is not None:
            self._stepped(scheduler_stats.num_running_reqs, iteration_stats)
            self.running = scheduler_stats.num_running_reqs
            self.waiting = scheduler_stats.num_waiting_reqs
            self.kv_usage = scheduler_stats.kv_cache_usage
        if iteration_stats is not None:
            self.preempted += iteration_stats.num_preempted_reqs

    def _stepped(self, still_running: int, iteration_stats: Any) -> None:
        # What a step has finished is no longer among what runs.
        finished = 0 if iteration_stats is None else len(iteration_stats.finished_requests)
        if still_running + finished == 0:
            return  # only told that requests were aborted
        self.steps += 1
        self.batched += still_running + finished
        if self._busy_since is not None:
            now = self._now()
            self.step_seconds += now - self._busy_since
            self._busy_since = now

    def log_engine_initialized(self) -> None:
        """Nothing to say."""

    def log(self) -> None:
        """Nothing to say: `status()` of the engine is asked."""

    def record_sleep_state(self, is_awake: int, level: int) -> None:
        """It never sleeps here."""
