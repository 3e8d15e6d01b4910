"""How far an evaluation is, and how long the rest will take."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
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

    def skip(self, label: str) -> None:
        self._left[label] = 0

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
def shown(plan: Plan, results: Results) -> Iterator[Callable[[Row], None]]:
    """A bar on standard error; call it with every row."""
    estimate = Estimate(plan, results)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rest]}"),
        console=Console(stderr=True),
    )
    total = len(plan.items) * len(plan.policies) * len(plan.seeds)
    with bar:
        task = bar.add_task("", total=total, completed=total - estimate.left, rest="")

        def done(row: Row) -> None:
            estimate.done(row)
            bar.update(
                task,
                completed=total - estimate.left,
                description=f"{row['policy']}, seed {row['seed']}",
                rest=f"{spoken(estimate.seconds)} left",
            )

        yield done


def spoken(seconds: float) -> str:
    """A duration as one says it: `40 s`, `12 min`, `3 h 05 min`."""
    if math.isnan(seconds):
        return "?"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"
