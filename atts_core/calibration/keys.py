"""What a bank of scores belongs to, and how scores travel between routers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PairKey:
    """What made a score. Scores of two pairs never meet in one bank.

    `template` is the fingerprint of the prompt template, `score` names the score's definition
    (`atts_core.scoring.DEFINITION`).
    """

    draft: str
    target: str
    template: str
    score: str

    def __str__(self) -> str:
        return f"{self.draft}>{self.target}>{self.template}>{self.score}"


@dataclass(frozen=True, slots=True)
class Record:
    """One score on its way to the other routers (conformity: nats a token, negative nll).

    (`origin`, `sequence`) is its identity: `origin` is one life of a router (a restart is a new
    one), `sequence` counts its scores from 1, so that each is taken in exactly once.
    """

    origin: str
    sequence: int
    turn: int
    conformity: float


@dataclass(frozen=True, slots=True)
class Batch:
    """Scores of one pair; those of one origin in the order of their sequence."""

    pair: PairKey
    records: tuple[Record, ...]
