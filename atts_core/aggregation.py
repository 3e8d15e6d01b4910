"""From the ends of chains to one answer: classes of equivalent answers, weighed and ranked."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias, get_args

from atts_core.answers import normal_form
from atts_core.types import Aggregation, Answer, Stopped, Vote


@dataclass(frozen=True, slots=True)
class Ballot:
    """How one chain ended: its answer, its text, and its mean nll under the target (nats a token).

    `nll` is infinite for a chain the target never scored; `handed_over` is where in the text the
    target took over last. `meaning` is the class its answer was sorted into (`comparison.Classes`);
    without one, its normal form. `weight` is the vote's, where its policy weighs it. Ballots stand
    in the order in which their chains ended.
    """

    candidate: int
    answer: str | None
    text: str
    nll: float
    handed_over: int = 0
    meaning: Hashable = None
    weight: float | None = None


Rank: TypeAlias = Callable[[list[Ballot]], tuple[float, ...]]
"""A class of ballots as a key: the lowest wins."""


def _most(same: list[Ballot]) -> tuple[float, ...]:
    return -len(same), _speaker(same).nll


def _heaviest(same: list[Ballot]) -> tuple[float, ...]:
    return -sum(map(weight, same)), _speaker(same).nll


def _lowest(same: list[Ballot]) -> tuple[float, ...]:
    return (_speaker(same).nll,)


def _earliest(same: list[Ballot]) -> tuple[float, ...]:
    return ()  # sorting is stable: classes stand in the order of their first ballots


RANKS: Mapping[Aggregation, Rank] = MappingProxyType(
    {"majority": _most, "weighted": _heaviest, "best": _lowest, "first": _earliest}
)
"""How classes are ranked: by votes (ties go to the class that holds the lowest nll), by votes
weighed with the chains' mean likelihood a token (or as the policy weighs them), by the lowest nll
alone, by who came first."""

assert set(RANKS) == set(get_args(Aggregation))


def weight(ballot: Ballot) -> float:
    """The policy's weight, else exp(-nll): the geometric mean likelihood of the chain's tokens."""
    return math.exp(-ballot.nll) if ballot.weight is None else ballot.weight


def count(ballots: Sequence[Ballot], how: Aggregation = "majority") -> tuple[Vote, ...]:
    """Classes of equivalent answers, the winner first."""
    classes: dict[object, list[Ballot]] = {}
    for ballot in ballots:
        if ballot.answer is not None:
            meaning = normal_form(ballot.answer) if ballot.meaning is None else ballot.meaning
            classes.setdefault(meaning, []).append(ballot)
    return tuple(_vote(same, how) for same in sorted(classes.values(), key=RANKS[how]))


def _vote(same: list[Ballot], how: Aggregation) -> Vote:
    speaker = same[0] if how == "first" else _speaker(same)
    assert speaker.answer is not None
    return Vote(
        answer=speaker.answer,
        candidates=tuple(ballot.candidate for ballot in same),
        weight=sum(map(weight, same)),
        speaker=speaker.candidate,
        text=speaker.text,
        handed_over=speaker.handed_over,
    )


def aggregate(
    ballots: Sequence[Ballot], how: Aggregation = "majority", stopped: Stopped = "all"
) -> Answer:
    """The common answer; without any, the most plausible chain still speaks."""
    votes = count(ballots, how)
    if votes:
        won = votes[0]
        return Answer(
            answer=won.answer,
            agreement=won.votes / len(ballots),
            votes=votes,
            text=won.text,
            candidate=won.speaker,
            handed_over=won.handed_over,
            stopped=stopped,
        )
    spoken = _speaker(ballots) if ballots else None
    return Answer(
        answer=None,
        agreement=0.0,
        votes=(),
        text=spoken.text if spoken else "",
        candidate=spoken.candidate if spoken else None,
        handed_over=spoken.handed_over if spoken else 0,
        stopped=stopped,
    )


def _speaker(same: Sequence[Ballot]) -> Ballot:
    return min(same, key=lambda ballot: (ballot.nll, ballot.candidate))
