"""What can go wrong, as few types; HTTP statuses and exit codes are mapped elsewhere.

AttsError
├── BadInput             somebody asked for what cannot be (HTTP 400, exit status 2)
│   ├── UnknownModel     a model name that is not served (HTTP 404)
│   ├── PolicyLacks      a policy that these two models cannot serve
│   ├── UnknownRun       a run that is not, or no longer, known (HTTP 404)
│   ├── KeyReused        an idempotency key that stands for another request (HTTP 422)
│   └── PromptTooLong    the prompt leaves no room in a model's context
├── Overloaded           no room for more work now; nothing was started (HTTP 429)
├── EngineError          one request to one model failed
│   ├── EngineUnavailable    the model cannot be reached or died; another replica may work
│   │   └── EngineFull           its queue has no room (HTTP 429 where nothing has begun)
│   ├── ContextFull          the chain with what is to come is longer than the model reads
│   └── ScoreMissing         the model returned no usable log-probabilities
├── StoreUnavailable     the store that the routers share does not answer (HTTP 503)
├── RunCancelled         somebody cancelled the run by its id (HTTP 409)
└── RunFailed            every candidate of a question failed (HTTP 503)
    └── DeadlinePassed       the time was up before any chain had begun (HTTP 504)
"""

from __future__ import annotations


class AttsError(Exception):
    """The root of every error this project raises on purpose."""


class BadInput(AttsError):
    """A value that is not allowed: names the field, what was found, what is allowed.

    `field` is the dotted path a user wrote (`atts.takeover_rate`), or None where there is none.
    """

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field

    def __reduce__(self) -> tuple[object, ...]:
        """Keep `field` when the error crosses a process border."""
        return _rebuild, (type(self), self.message, self.field)


def _rebuild(kind: type[BadInput], message: str, field: str | None) -> BadInput:
    return kind(message, field=field)


class UnknownModel(BadInput):
    """A model name that is not served here."""


class PolicyLacks(BadInput):
    """A policy needs what one of the two models does not have; the message says what."""


class UnknownRun(BadInput):
    """A run that was never here, is another key's, or has left the history."""


class KeyReused(BadInput):
    """An idempotency key was sent again with another request."""


class PromptTooLong(BadInput):
    """The prompt leaves no room for an answer in a model's context."""


class Overloaded(AttsError):
    """All places are taken; `retry_after` says in how many seconds to try again."""

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_overloaded, (self.message, self.retry_after)


def _rebuild_overloaded(message: str, retry_after: float) -> Overloaded:
    return Overloaded(message, retry_after=retry_after)


class EngineError(AttsError):
    """One request to one model failed; the message names the engine and the request."""


class EngineUnavailable(EngineError):
    """The model cannot be reached or died with the request; the same request may succeed."""


class EngineFull(EngineUnavailable):
    """The model's queue is full; `retry_after` says in how many seconds to try again."""

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_full, (self.message, self.retry_after)


def _rebuild_full(message: str, retry_after: float) -> EngineFull:
    return EngineFull(message, retry_after=retry_after)


class ContextFull(EngineError):
    """The chain does not fit the model's context: seen late where vocabularies differ."""


class ScoreMissing(EngineError):
    """The model gave no, too few or non-finite log-probabilities: no score, no guess."""


class StoreUnavailable(AttsError):
    """The store does not answer, or its database fails; the same request may succeed later."""


class RunCancelled(AttsError):
    """The run was cancelled by its id; whoever waits for its answer is told so."""


class RunFailed(AttsError):
    """Every candidate of a question failed; the message holds the first reason."""


class DeadlinePassed(RunFailed):
    """The question's time was up before any chain had begun: there is not even a part of one."""
