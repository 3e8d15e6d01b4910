"""What several tests need: a scripted pair and a run over it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from atts_core.acceptance import Gate
from atts_core.allowance import Allowance
from atts_core.calibration.keys import PairKey
from atts_core.candidate import Run
from atts_core.engine import ScriptedEngine
from atts_core.events import Event
from atts_core.policies import settle
from atts_core.settings import Method
from atts_core.types import Message, Question
from benchmarks.server import running_server

PAIR = PairKey(draft="d", target="t", template="p", score="mean-nll")
QUESTION = Question("q", (Message("user", "1+1?"),))


class Recorder:
    """A run over two scripted engines, with every event it emitted."""

    def __init__(self, draft: ScriptedEngine, target: ScriptedEngine, gate: Gate) -> None:
        self.draft, self.target, self.gate = draft, target, gate
        self.events: list[Event] = []

    def run(self, *, places: int = 100, **method: Any) -> Run:
        """A run of one candidate unless `method` says otherwise, with `places` for takeovers."""
        asked: dict[str, Any] = {
            "candidates": 1,
            "turns": 4,
            "draft_tokens": 50,
            "target_tokens": 50,
            "seed": 1,
        }
        given = asked | method
        checked = Method.model_validate(given)
        return Run(
            id="q",
            method=(wanted := settle(Method(), {name: getattr(checked, name) for name in given})),
            seed=method.get("seed", 1),
            draft=self.draft,
            target=self.target,
            gate=self.gate,
            slots=asyncio.Semaphore(places),
            allowance=Allowance(wanted.max_target_tokens),
            emit=self.events.append,
        )

    def of(self, *kinds: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kinds)]


@pytest.fixture
def scripted() -> Callable[..., Recorder]:
    """`scripted(draft_writes, target_writes, rates)`: engines that follow these functions."""

    def make(
        draft: Callable[..., Any],
        target: Callable[..., Any] = lambda seen, request: r"\boxed{2}",
        rates: Callable[[str], float] = lambda text: 1.0,
        *,
        draft_context: int = 100_000,
        gate: Any = None,
    ) -> Recorder:
        return Recorder(
            ScriptedEngine(draft, name="draft", max_len=draft_context),
            ScriptedEngine(target, rates, name="target"),
            gate or Gate(PAIR),
        )

    return make


@pytest.fixture(scope="session")
def served() -> Iterator[str]:
    """The base URL of `atts serve` with the shipped configuration, on a free port."""
    with running_server() as url:
        yield url
