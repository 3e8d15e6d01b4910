"""Votes: from the ends of chains to one answer, and to the moment when it can change no more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from atts_core.answers import normal_form
from atts_core.types import Answer, Vote


@dataclass(frozen=True, slots=True)
class Ballot:
    """How one chain ended: its answer, its text, and its mean nll under the target (nats a token).

    `nll` is infinite for a chain the target never scored; `handed_over` is where in the text the
    target took over last.
    """

    candidate: int
    answer: str | None
    text: str
    nll: float
    handed_over: int = 0


def count(ballots: Sequence[Ballot]) -> tuple[Vote, ...]:
    """Classes of equivalent answers, most votes first; ties go to the lowest nll in the class."""
    classes: dict[object, list[Ballot]] = {}
    for ballot in ballots:
        if ballot.answer is not None:
            classes.setdefault(normal_form(ballot.answer), []).append(ballot)
    ranked = sorted(classes.values(), key=lambda same: (-len(same), _best(same).nll))
    return tuple(
        Vote(answer=_best(same).answer or "", candidates=tuple(b.candidate for b in same))
        for same in ranked
    )


def decided(ballots: Sequence[Ballot], still_open: int) -> bool:
    """Whether no open chain can change the winner any more, even if all agree against it."""
    votes = count(ballots)
    if not votes:
        return False
    second = votes[1].votes if len(votes) > 1 else 0
    # A tie would be settled by nll, which an open chain can win: the lead must be strict.
    return votes[0].votes > second + still_open


def majority(ballots: Sequence[Ballot]) -> Answer:
    """The answer most chains gave; its text is the winner's chain of lowest nll."""
    votes = count(ballots)
    if not votes:
        spoken = min(ballots, key=_order) if ballots else None
        return Answer(
            answer=None,
            agreement=0.0,
            votes=(),
            text=spoken.text if spoken else "",
            candidate=spoken.candidate if spoken else None,
            handed_over=spoken.handed_over if spoken else 0,
        )
    winners = [b for b in ballots if b.candidate in votes[0].candidates]
    best = _best(winners)
    return Answer(
        answer=best.answer,
        agreement=votes[0].votes / len(ballots),
        votes=votes,
        text=best.text,
        candidate=best.candidate,
        handed_over=best.handed_over,
    )


def _best(same: Sequence[Ballot]) -> Ballot:
    return min(same, key=_order)


def _order(ballot: Ballot) -> tuple[float, int]:
    return ballot.nll, ballot.candidate
