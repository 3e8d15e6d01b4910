"""One question answered: what the HTTP routes, the command line and the benchmarks all call."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from atts_core import scaling
from atts_core.acceptance import Gate
from atts_core.allowance import Allowance
from atts_core.candidate import Run
from atts_core.comparison import Mathematics
from atts_core.engine import Engine
from atts_core.errors import Overloaded
from atts_core.events import Decided, Event
from atts_core.randomness import fresh_seed
from atts_core.settings import Limits, Method
from atts_core.types import Answer, Message, Question
from atts_core.usage import Usage
from services.drift_watch import DriftWatch
from services.recorder import Recorder
from services.turns import Turns
from services.watching import SeenRun, Watcher, followed


@dataclass
class Outcome:
    """A finished run: the answer, what it cost, and under which method and seed it was made."""

    id: str
    method: Method
    seed: int
    answer: Answer
    usage: Usage
    seconds: float


@dataclass
class Service:
    """Two engines, the gate between them, and the room there is for questions."""

    draft: Engine
    target: Engine
    gate: Gate
    limits: Limits
    recorder: Recorder | None = None
    mathematics: Mathematics | None = None
    watchers: list[Watcher] = field(default_factory=list)
    running: dict[str, Usage] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.drift = DriftWatch(self.gate)
        self._slots = asyncio.Semaphore(self.limits.max_concurrent_takeovers)
        self._turns = Turns(self.limits.max_running)

    def check_room(self) -> None:
        """Raise `Overloaded`, with the time to come again, where no more questions may run."""
        if len(self.running) >= self.limits.max_running:
            raise Overloaded(
                f"{len(self.running)} questions are running here, the most allowed at once "
                "(limits.max_running); try again after Retry-After",
                retry_after=self._turns.wait(),
            )

    async def answer(
        self,
        messages: tuple[Message, ...],
        method: Method,
        *,
        run_id: str | None = None,
        emit: Callable[[Event], None] = lambda event: None,
    ) -> Outcome:
        """Run one question to its answer.

        Raises `Overloaded` at once where there is no room; cancelling the caller stops the run
        and all its engine requests.
        """
        self.check_room()
        run_id = run_id or new_run_id()
        usage = Usage()
        seed = fresh_seed() if method.seed is None else method.seed
        record = self._record(run_id, method, seed)
        seen = SeenRun(run_id, method, seed, messages, usage)

        def count_and_emit(event: Event) -> None:
            usage.add(event)
            record(event)
            tell(event)
            emit(event)
            if isinstance(event, Decided):
                for alarm in self.drift.check(event.at):
                    tell(alarm)
                    emit(alarm)

        run = Run(
            id=run_id,
            method=method,
            seed=seed,
            draft=self.draft,
            target=self.target,
            gate=self.gate,
            slots=self._slots,
            allowance=Allowance(method.max_target_tokens),
            emit=count_and_emit,
            mathematics=self.mathematics,
        )
        self.running[run_id] = usage
        try:
            with followed(self.watchers, seen) as tell:
                answer = await scaling.answer(run, Question(run_id, messages))
        finally:
            del self.running[run_id]
            self._turns.ended(run.at)
        return Outcome(run_id, method, run.seed, answer, usage, run.at)

    def _record(self, run_id: str, method: Method, seed: int) -> Callable[[Event], None]:
        if self.recorder is None:
            return lambda event: None
        return self.recorder.run(run_id, method, seed, self.gate.settings.coverage)


def new_run_id(kind: str = "chatcmpl") -> str:
    return f"{kind}-{uuid.uuid4().hex}"
