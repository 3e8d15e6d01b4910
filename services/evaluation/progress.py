"""How far an evaluation is, and how long the rest will take."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from services.evaluation.asking import Plan
from services.evaluation.results import Results, Row


class Estimate:
    """How long the rest will take, from what each policy took so far."""

    def __init__(self, plan: Plan, results: Results) -> None:
        self._at_once = plan.at_once
        self._left = dict.fromkeys((p.label for p in plan.policies), 0)
        self._seconds: dict[str, list[float]] = {p.label: [] for p in plan.policies}
        for seed in plan.seeds:
            for policy in plan.policies:
                for item in plan.items:
                    done = results.finished((policy.label, seed, item.id))
                    self._left[policy.label] += not done
        for row in results.rows.values():
            self._note(row)

    def done(self, row: Row) -> None:
        self._left[row["policy"]] -= 1
        self._note(row)

    def skip(self, label: str) -> int:
        """Leave a policy out; how many of its questions were left."""
        skipped, self._left[label] = self._left[label], 0
        return skipped

    def _note(self, row: Row) -> None:
        if row["error"] is None and row["policy"] in self._seconds:
            self._seconds[row["policy"]].append(row["latency"])

    @property
    def left(self) -> int:
        return sum(self._left.values())

    @property
    def seconds(self) -> float:
        """NaN before the first answer; a policy not asked yet counts as the mean of the others."""
        means = {label: sum(taken) / len(taken) for label, taken in self._seconds.items() if taken}
        if not means:
            return math.nan
        usual = sum(means.values()) / len(means)
        return sum(n * means.get(p, usual) for p, n in self._left.items()) / self._at_once


@contextmanager
def shown(plan: Plan, results: Results) -> Iterator[Shown]:
    """A bar on standard error, to be told of every row and of every policy left out."""
    estimate = Estimate(plan, results)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rest]}"),
        console=Console(stderr=True),
    )
    with bar:
        yield Shown(bar, estimate, len(plan.items) * len(plan.policies) * len(plan.seeds))


class Shown:
    """The bar and what it is told."""

    def __init__(self, bar: Progress, estimate: Estimate, total: int) -> None:
        self._bar, self._estimate, self._total = bar, estimate, total
        self._task = bar.add_task("", total=total, completed=total - estimate.left, rest="")

    def done(self, row: Row) -> None:
        self._estimate.done(row)
        self._show(f"{row['policy']}, seed {row['seed']}")

    def skip(self, label: str) -> None:
        """A policy is not asked: its questions are not waited for."""
        self._total -= self._estimate.skip(label)
        self._show(f"{label} is left out")

    def _show(self, description: str) -> None:
        left = self._estimate.left
        self._bar.update(
            self._task,
            total=self._total,
            completed=self._total - left,
            description=description,
            rest=f"{spoken(self._estimate.seconds)} left",
        )


def spoken(seconds: float) -> str:
    """A duration as one says it: `40 s`, `12 min`, `3 h 05 min`."""
    if math.isnan(seconds):
        return "?"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"
