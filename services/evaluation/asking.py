"""Every policy over every question, one after the other, so that each has the machine alone.

For each seed in turn, each policy asks all questions, `at_once` in flight. With the next seed
another policy comes first, so that none is always the one after the start. Before each of these
passes one question is asked that does not count: it pays for what is slow only once.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, TypeVar

from atts_core.comparison import Comparer, Mathematics
from atts_core.errors import AttsError, BadInput, Overloaded
from atts_core.grading import grade
from atts_core.types import Comparison, Message, Question
from services.client import ServerLost
from services.evaluation.account import Account
from services.evaluation.hosts import Ask, Host
from services.evaluation.items import Item
from services.evaluation.profile import from_to
from services.evaluation.results import Results, Row
from services.evaluation.specs import PolicySpec

UNAVAILABLE = "atts.policy"
"""The field that an error names where a policy cannot be served by the two models."""

PATIENCE = 600.0
"""Seconds that a question waits for room at most: other clients may have all of it."""
Asked = TypeVar("Asked")


@dataclass(frozen=True)
class Plan:
    """What is asked, in how many at once."""

    items: Sequence[Item]
    policies: Sequence[PolicySpec]
    seeds: Sequence[int]
    at_once: int
    comparison: Comparison
    tolerance: float = 0.0

    def passes(self) -> Iterator[tuple[int, PolicySpec]]:
        """Seed by seed; the policies in turn, from another one each time."""
        for number, seed in enumerate(self.seeds):
            first = number % len(self.policies)
            for policy in (*self.policies[first:], *self.policies[:first]):
                yield seed, policy


@dataclass
class Evaluation:
    """A plan being carried out."""

    plan: Plan
    host: Host
    results: Results
    mathematics: Mathematics | None
    on_row: Callable[[Row], None] = lambda row: None
    on_skip: Callable[[str], None] = lambda label: None
    session: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    skipped: dict[str, str] = field(default_factory=dict)
    """By label, why a policy cannot be served here."""

    async def run(self) -> None:
        """Ask what has no answer yet.

        Raises `AttsError` where nobody answers any more: what is finished is kept.
        """
        for seed, policy in self.plan.passes():
            left = [
                item
                for item in self.plan.items
                if not self.results.finished((policy.label, seed, item.id))
            ]
            if left and policy.label not in self.skipped:
                await self._warm_up(policy, seed)
            if left and policy.label not in self.skipped:
                await self._pass(policy, seed, left)

    async def _warm_up(self, policy: PolicySpec, seed: int) -> None:
        """One question that does not count; it shows whether the policy can be served at all."""
        body = policy.body(self.host.model, self.plan.items[0].question, seed)

        async def ask() -> None:
            async with aclosing(self.host.fresh()(body)) as run:
                async for _ in run:
                    pass

        try:
            await patiently(ask)
        except BadInput as error:
            if error.field == UNAVAILABLE:
                self.skipped[policy.label] = error.message
                self.on_skip(policy.label)
            elif error.field and not error.field.startswith("messages"):
                raise BadInput(f"{policy.label}: {error.message}", field=error.field) from None
        except (ServerLost, Overloaded):
            raise
        except AttsError:
            pass  # about this one question: its row will say so

    async def _pass(self, policy: PolicySpec, seed: int, left: Sequence[Item]) -> None:
        ask = self.host.fresh()
        waiting = iter(left)

        async def keep_asking() -> None:
            for item in waiting:
                row = await self._question(ask, policy, seed, item)
                await self.results.add(row)
                self.on_row(row)

        try:
            async with asyncio.TaskGroup() as places:
                for _ in range(self.plan.at_once):
                    places.create_task(keep_asking())
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _question(self, ask: Ask, policy: PolicySpec, seed: int, item: Item) -> Row:
        """One question asked and graded. A failure is a row, too; one without a host is none."""
        body = policy.body(self.host.model, item.question, seed_of(seed, item))
        run = await patiently(lambda: self._run(ask, body))
        if run.error is None and "atts" not in run.completion:
            raise ServerLost(f"{policy.label}, {item.id}: the answer ended without its end")
        return {
            "policy": policy.label,
            "seed": seed,
            "question": item.id,
            "error": run.error,
            "session": self.session,
            "asked_at": round(run.asked, 3),
            "began": round(run.began, 4),
            "latency": round(run.latency, 4),
            "readings": run.readings,
            **run.account.as_row(run.began, timeline=item.id == self.plan.items[0].id),
            **await self._graded(item, run.account, run.completion.get("atts")),
        }

    async def _run(self, ask: Ask, body: dict[str, Any]) -> _Run:
        """One request, its time, and what the clocks showed around it."""
        account = Account()
        completion: dict[str, Any] = {}
        error: str | None = None
        before = await self.host.readings()
        asked, began = time.time(), monotonic()
        try:
            async with aclosing(ask(body)) as run:
                async for event in run:
                    if event["event"] == "Completed":
                        completion = event["completion"]
                    else:
                        account.add(event)
        except (ServerLost, Overloaded):
            raise
        except AttsError as failure:
            error = str(failure)
        latency = monotonic() - began
        readings = from_to(before, await self.host.readings())
        return _Run(account, completion, error, asked, began, latency, readings)

    async def _graded(
        self, item: Item, account: Account, atts: dict[str, Any] | None
    ) -> dict[str, Any]:
        """The truth about the run's answer and about each chain that ended by itself."""
        question = Question(item.id, (Message("user", item.question),))
        comparer = Comparer.of(
            question, self.plan.comparison, self.plan.tolerance, self.mathematics
        )
        answer = None if atts is None else atts["answer"]
        verdict = await grade(answer, item.answer, comparer)
        ended = [chain for chain in account.chains.values() if chain.whole]
        right = [await grade(chain.answer, item.answer, comparer) for chain in ended]
        return {
            "truth": item.answer,
            "answer": answer,
            "right": verdict == "same",
            "chains_ended": len(ended),
            "chains_right": right.count("same"),
            "undecided": [verdict, *right].count("undecided"),
            "stopped": None if atts is None else atts["stopped"],
            "tokens": None if atts is None else atts["tokens"],
            "decisions": sum(row[0] for row in account.turns.values()),
            "rejected": sum(row[1] for row in account.turns.values()),
        }


@dataclass(frozen=True, slots=True)
class _Run:
    """What came of one request; seconds are of the monotonic clock, but for `asked`."""

    account: Account
    completion: dict[str, Any]
    error: str | None
    asked: float
    began: float
    latency: float
    readings: dict[str, dict[str, list[float]]]


async def patiently(ask: Callable[[], Awaitable[Asked]]) -> Asked:
    """Ask; where there is no room, ask again when the host says so: nothing was started.

    Raises `Overloaded` where there was none for `PATIENCE` seconds.
    """
    until = monotonic() + PATIENCE
    while True:
        try:
            return await ask()
        except Overloaded as full:
            if monotonic() + full.retry_after > until:
                raise
            await asyncio.sleep(full.retry_after)


def seed_of(seed: int, item: Item) -> int:
    """A question's own seed: the same for every policy, whatever else is asked."""
    digest = hashlib.sha256(f"{seed}/{item.id}".encode()).digest()
    return int.from_bytes(digest[:6], "big")
