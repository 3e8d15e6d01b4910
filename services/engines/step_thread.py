"""The thread that runs the steps, and the way from asyncio to it and back."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Literal, TypeAlias

import torch

from atts_core.errors import EngineError, EngineUnavailable
from atts_core.types import EngineCost
from services.engines.jobs import Job
from services.engines.step_loop import StepLoop

Waiter: TypeAlias = "asyncio.Future[Any]"
Outcome: TypeAlias = EngineCost | EngineError | None


@dataclass(slots=True)
class _Message:
    kind: Literal["add", "cancel", "abort", "idle", "close"]
    job: Job | None = None
    waiter: Waiter | None = None
    chains: frozenset[str] = frozenset()


class StepThread:
    """Runs a step loop until `close`. `run` and `idle` may be awaited on any event loop.

    The thread computes with `threads` of torch's, at a niceness that is `niceness` higher.
    """

    def __init__(self, steps: StepLoop, name: str, threads: int, niceness: int = 0) -> None:
        self._steps = steps
        self._name = name
        self._threads = threads
        self._niceness = niceness
        self._inbox: SimpleQueue[_Message] = SimpleQueue()
        self._waiters: dict[Job, Waiter] = {}
        self._idle: list[Waiter] = []
        self._ended: str | None = None
        self._thread = threading.Thread(target=self._run, name=f"engine {name}", daemon=True)
        self._thread.start()

    async def run(self, job: Job) -> None:
        """Have `job` done; cancelling takes it out before the next step.

        Raises the job's error, or EngineUnavailable when the thread has ended.
        """
        try:
            await self._sent("add", job)
        except asyncio.CancelledError:
            self._inbox.put(_Message("cancel", job))
            raise

    async def abort(self, chains: Collection[str]) -> EngineCost:
        """Take out the jobs of `chains`, which fail; what the cancelled ones of them had cost."""
        try:
            cost: EngineCost = await self._sent("abort", chains=frozenset(chains))
        except EngineUnavailable:
            return EngineCost()
        return cost

    async def idle(self) -> None:
        """Wait until no request is left."""
        await self._sent("idle")

    def check(self, job: Job | None = None) -> None:
        """Raise EngineUnavailable, which names `job`, when no step will ever run again."""
        if self._ended is not None:
            raise self._unavailable(self._ended, job)

    def close(self) -> None:
        """End the thread; requests under way fail with EngineUnavailable."""
        self._inbox.put(_Message("close"))
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _sent(
        self,
        kind: Literal["add", "abort", "idle"],
        job: Job | None = None,
        chains: frozenset[str] = frozenset(),
    ) -> Waiter:
        waiter: Waiter = asyncio.get_running_loop().create_future()
        self._inbox.put(_Message(kind, job, waiter, chains))
        # After the put: an ending thread first says so, then empties its inbox.
        self.check(job)
        return waiter

    # ------------------------------------------------------------------ in the thread

    def _run(self) -> None:
        # Of this thread alone: other engines in the process have their own number.
        torch.set_num_threads(self._threads)
        if sys.platform == "linux":  # elsewhere it would be the whole process'
            os.nice(self._niceness)
        ended = "the engine is closed"
        try:
            with torch.inference_mode():
                while self._take_messages():
                    self._settle(self._steps.step())
                    self._tell_idle()
        except Exception as error:
            logging.getLogger(__name__).exception("the engine of %s has died", self._name)
            ended = f"the engine has died: {error!r}"
        self._ended = ended
        self._fail_all(ended)

    def _take_messages(self) -> bool:
        """Handle what has come in, waiting for work where there is none; False: close."""
        while not self._steps.busy or not self._inbox.empty():
            message = self._inbox.get()
            if message.kind == "close":
                return False
            self._handle(message)
            self._tell_idle()
        return True

    def _handle(self, message: _Message) -> None:
        job, waiter = message.job, message.waiter
        if message.kind == "abort":
            assert waiter is not None
            self._abort(message.chains, waiter)
        elif job is None:
            assert waiter is not None
            self._idle.append(waiter)
        elif waiter is not None:
            self._waiters[job] = waiter
            self._steps.add(job)
        elif self._waiters.pop(job, None) is not None:
            self._steps.cancel(job)
        elif job.done:  # its end was on its way when its owner was cancelled
            cost = job.cost()
            self._steps.counters.aborted_tokens += cost.written_tokens
            self._steps.aborted.note(job.chain, cost)

    def _abort(self, chains: frozenset[str], waiter: Waiter) -> None:
        settled: list[tuple[Waiter, Outcome]] = []
        for job in [job for job in self._waiters if job.chain in chains]:
            self._steps.cancel(job)
            reason = f"{self._name}, {job.chain}: the chain's requests were aborted"
            settled.append((self._waiters.pop(job), EngineError(reason)))
        _post([*settled, (waiter, self._steps.aborted.take(dict.fromkeys(chains, 0)))])

    def _settle(self, finished: Sequence[tuple[Job, EngineError | None]]) -> None:
        _post([(self._waiters.pop(job), error) for job, error in finished])

    def _tell_idle(self) -> None:
        if self._idle and not self._steps.busy:
            _post([(waiter, None) for waiter in self._idle])
            self._idle.clear()

    def _fail_all(self, reason: str) -> None:
        waiting: list[tuple[Waiter, Job | None]] = [
            (own, job) for job, own in self._waiters.items()
        ]
        waiting += [(waiter, None) for waiter in self._idle]
        while not self._inbox.empty():
            message = self._inbox.get()
            if message.waiter is not None:
                waiting.append((message.waiter, message.job))
        self._waiters.clear()
        _post([(waiter, self._unavailable(reason, job)) for waiter, job in waiting])

    def _unavailable(self, reason: str, job: Job | None) -> EngineUnavailable:
        who = self._name if job is None else f"{self._name}, {job.chain}"
        return EngineUnavailable(f"{who}: {reason}")


def _post(settled: Sequence[tuple[Waiter, Outcome]]) -> None:
    """Wake the waiters, each on its own event loop."""
    loops: dict[asyncio.AbstractEventLoop, list[tuple[Waiter, Outcome]]] = {}
    for waiter, outcome in settled:
        loops.setdefault(waiter.get_loop(), []).append((waiter, outcome))
    for loop, some in loops.items():
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_wake, some)


def _wake(settled: Sequence[tuple[Waiter, Outcome]]) -> None:
    for waiter, outcome in settled:
        if waiter.done():
            continue
        if isinstance(outcome, EngineError):
            waiter.set_exception(outcome)
        else:
            waiter.set_result(outcome)
