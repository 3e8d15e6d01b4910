"""What vLLM last said of itself."""

from __future__ import annotations

from typing import Any


class Status:
    """A logger of vLLM's that keeps the last figures: see `vllm.v1.metrics.loggers`."""

    def __init__(self) -> None:
        self.running = 0
        self.waiting = 0
        self.kv_usage = 0.0
        self.preempted = 0

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
            self.running = scheduler_stats.num_running_reqs
            self.waiting = scheduler_stats.num_waiting_reqs
            self.kv_usage = scheduler_stats.kv_cache_usage
        if iteration_stats is not None:
            self.preempted += iteration_stats.num_preempted_reqs

    def log_engine_initialized(self) -> None:
        """Nothing to say."""

    def log(self) -> None:
        """Nothing to say: `status()` of the engine is asked."""

    def record_sleep_state(self, is_awake: int, level: int) -> None:
        """It never sleeps here."""
