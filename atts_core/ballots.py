"""The box for the votes of chains that have ended, each sorted by what its answer means."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from itertools import count

from atts_core.aggregation import Ballot
from atts_core.comparison import Classes, Comparer


class BallotBox:
    """Ballots of one question in the order in which their chains ended."""

    def __init__(self, comparer: Comparer) -> None:
        self._classes = Classes(comparer)
        self._ballots: dict[int, Ballot] = {}
        self._places = count()
        self._casting: set[asyncio.Task[None] | None] = set()

    @property
    def undecided(self) -> int:
        """Comparisons of two answers that came to no verdict in time."""
        return self._classes.undecided

    def casting(self, task: asyncio.Task[None]) -> bool:
        """Whether the task's chain has ended and its answer is being compared."""
        return task in self._casting

    async def cast(self, ballot: Ballot) -> None:
        """Sort the answer into its class; where there is no time left to compare it, alone."""
        place, task = next(self._places), asyncio.current_task()
        meaning = None
        self._casting.add(task)
        try:
            if ballot.answer is not None:
                meaning = await self._classes.of(ballot.answer)
        except asyncio.CancelledError:
            assert ballot.answer is not None
            meaning = self._classes.alone(ballot.answer)
            raise
        finally:
            self._casting.discard(task)
            self._ballots[place] = replace(ballot, meaning=meaning)

    def weighed(self, weight: Callable[[int], float | None]) -> list[Ballot]:
        """What was cast, with the weight of each candidate's vote; weight 0 is no vote."""
        ballots = [
            replace(ballot, weight=weight(ballot.candidate))
            for _, ballot in sorted(self._ballots.items())
        ]
        return [ballot for ballot in ballots if ballot.weight != 0]
