"""The nouns everything else speaks of: a question, a segment, a score, its cost, an answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Ids: TypeAlias = npt.NDArray[np.int32]
"""Token ids of one model's vocabulary, one dimension."""

Role: TypeAlias = Literal["system", "user", "assistant"]
Finish: TypeAlias = Literal["stop", "length", "eos"]
"""Why a segment ended: a stop string or stop id, its token limit, or the model's end of text."""


def as_ids(ids: Ids | list[int] | tuple[int, ...]) -> Ids:
    """`ids` as a compact array (4 bytes a token when it crosses a process border)."""
    return np.asarray(ids, dtype=np.int32)


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of the conversation that ends in the question."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and the identity under which its candidates are calibrated together."""

    id: str
    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """A chain as one model sees it: ids it has read, then text it has not tokenised yet.

    Ids are only ever appended, never re-tokenised: a tokenizer does not promise that
    encode(a + b) == encode(a) + encode(b). The first `prompt` ids are the question; None: all are.
    """

    ids: Ids
    tail: str = ""
    prompt: int | None = None

    @property
    def begins(self) -> bool:
        """Whether the model has read nothing after the question."""
        return self.prompt is None or len(self.ids) == self.prompt


@dataclass(frozen=True, slots=True)
class EngineCost:
    """What a request cost the engine, on the engine's own monotonic clock.

    `queued` is seconds from arrival to the first step, `busy` from there to the end;
    `prompt_tokens` counts the tokens given, of which `cached_tokens` needed no computing;
    `written_tokens` those written, with the end of text and a cut character, which no segment
    holds (0: as many as the segment has); `rated_tokens` those rated, where no score says so.
    `replica` names the one of several that did the work.
    """

    queued: float = 0.0
    busy: float = 0.0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    written_tokens: int = 0
    replica: str = ""
    rated_tokens: int = 0

    @classmethod
    def total(cls, costs: Iterable[EngineCost]) -> EngineCost:
        """The sums over `costs`, of no replica."""
        each = list(costs)
        return cls(
            queued=sum(cost.queued for cost in each),
            busy=sum(cost.busy for cost in each),
            prompt_tokens=sum(cost.prompt_tokens for cost in each),
            cached_tokens=sum(cost.cached_tokens for cost in each),
            written_tokens=sum(cost.written_tokens for cost in each),
            rated_tokens=sum(cost.rated_tokens for cost in each),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Likelihoods:
    """How sure a model was of the tokens it wrote; one value each, by its unchanged distribution.

    `logprobs` are the log-probabilities of these tokens (nats). `confidences` are minus the mean
    log-probability of the likeliest tokens in their places: the larger, the more peaked.
    """

    logprobs: npt.NDArray[np.float32]
    confidences: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """A piece of a chain as one model wrote it.

    `ids` are in the vocabulary named by the fingerprint `vocabulary` and hold no end-of-text id.
    `tail_ids` is how the model tokenised the history's tail: the caller appends them, then `ids`.
    `likelihoods` of the ids are there where the request asked for them.
    """

    text: str
    ids: Ids
    finish: Finish
    vocabulary: str
    tail_ids: Ids
    cost: EngineCost
    likelihoods: Likelihoods | None = None

    @property
    def tokens(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """The target's log-probabilities (nats) of a segment's tokens, one for each of `ids`."""

    ids: Ids
    logprobs: npt.NDArray[np.float32]
    tail_ids: Ids
    cost: EngineCost


@dataclass(frozen=True, slots=True)
class Score:
    """A segment's plausibility to the target: sums, so that any mean can be taken later.

    Source: method of arXiv 2509.15148, section 3; natural logarithm.
    """

    nll_sum: float
    tokens: int

    @property
    def nll(self) -> float:
        """Mean negative log-likelihood, nats a target token."""
        return self.nll_sum / self.tokens

    @property
    def ppl(self) -> float:
        """Perplexity, exp(nll)."""
        return float(np.exp(self.nll))

    @property
    def conformity(self) -> float:
        """Higher is more plausible; depends on no other candidate."""
        return -self.nll


PolicyName = Literal[
    "atts",
    "atts-sync",
    "random-takeover",
    "draft-only",
    "target-only",
    "self-consistency",
    "best-of-n",
    "specreason",
    "speculative-thinking",
    "deepconf-online",
]
"""How two models answer a question: see `atts_core.policies`."""

Aggregation = Literal["majority", "weighted", "best", "first"]
"""How ballots become one answer: see `atts_core.aggregation.RANKS`."""

Comparison = Literal["auto", "math", "number", "text", "choice"]
"""As what answers are compared: see `atts_core.comparison`."""

Start = Literal["all", "needed"]
"""Which chains run at once: all; or as many as settle the answer if they agree."""

Stopped = Literal["all", "consensus", "confidence", "count", "deadline"]
"""Why no chain of a question runs any more: all have ended; no open one could change the winner;
the lead is sure enough; enough have answered; the time was up."""


@dataclass(frozen=True, slots=True)
class Vote:
    """One class of equivalent answers: how it reads, who gave it, and the chain that speaks for it.

    `weight` is the sum of the chains' mean likelihoods a token, exp(-nll), or of the weights that
    their policy gave them.
    """

    answer: str
    candidates: tuple[int, ...]
    weight: float
    speaker: int
    text: str
    handed_over: int = 0

    @property
    def votes(self) -> int:
        return len(self.candidates)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the candidates say together.

    `answer` is None where no chain ended in one. `agreement` is the winner's share of the chains
    that ended by themselves; `text` is the chain that speaks for the winner, `handed_over` where in
    it the target took over last; `comparison` is as what the answers were compared, found out where
    it was to be; `undecided` counts comparisons of two answers that came to no
    verdict in time, so that these count as different.
    """

    answer: str | None
    agreement: float
    votes: tuple[Vote, ...]
    text: str
    candidate: int | None
    handed_over: int = 0
    stopped: Stopped = "all"
    comparison: Comparison = "auto"
    undecided: int = 0
