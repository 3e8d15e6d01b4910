"""What a policy is: how one run begins, and what it asks of settings and models."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from atts_core.candidate import Candidate, Run
from atts_core.engine import Engine
from atts_core.events import Ending
from atts_core.types import Question

Solve: TypeAlias = Callable[[Candidate], Awaitable[Ending]]
"""Moves one candidate from its first token to its end."""


async def _nothing(draft: Engine, target: Engine) -> str | None:
    return None


@dataclass(frozen=True)
class Policy:
    """One way to answer a question with two models.

    `begin` makes what the candidates of one run share, and says how each is moved to its end; it
    is called before the first of them starts. `defaults` are fields of `Method` that belong to the
    policy: they stand unless a request says otherwise. `lacks` says what the models do not have
    that the policy needs, or None. `gated` policies decide with the gate's bank. Candidates of a
    policy that is `together` wait for each other: all start at once. No vote weighs more than
    `heaviest`.
    """

    name: str
    begin: Callable[[Run, Question], Solve]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    lacks: Callable[[Engine, Engine], Awaitable[str | None]] = _nothing
    gated: bool = False
    together: bool = False
    heaviest: float = 1.0


def each(solve: Solve) -> Callable[[Run, Question], Solve]:
    """The `begin` of a policy whose candidates share nothing."""
    return lambda run, question: solve
