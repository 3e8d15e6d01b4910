"""What the HTTP engine needs to know of a kind of server."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from atts_core.engine import Generate
from atts_core.errors import EngineError, EngineUnavailable
from atts_core.types import Finish, Ids

Reply = Mapping[str, Any]


@dataclass(frozen=True)
class Call:
    """One POST. With `watch` the answer is streamed, and its reply is `{"events": [...]}`.

    `watch` begins to look at an answer: what it returns is given one event after the other, and
    says when there are enough.
    """

    path: str
    body: dict[str, Any]
    watch: Callable[[], Callable[[Reply], bool]] | None = None


@dataclass(frozen=True)
class Written:
    """What a server wrote: ids without an end-of-text id, and of the prompt how much was cached."""

    ids: list[int]
    finish: Finish
    cached: int = 0


@dataclass(frozen=True)
class Rated:
    """One log-probability (nats) for each token asked for; None where the server gave null."""

    logprobs: list[float | None]
    cached: int = 0


class Server(Protocol):
    """A kind of server.

    What is not understood in a reply raises EngineError, and ScoreMissing where it is a score; the
    messages name neither server nor request.
    """

    kind: str
    scores: bool

    @property
    def reuses_prefix(self) -> bool: ...

    def generation(self, ids: Ids, limit: int, request: Generate) -> Call:
        """Ask for at most `limit` tokens behind `ids`."""
        ...

    def written(self, reply: Reply, request: Generate) -> Written: ...

    def rating(self, ids: Ids, start: int, *, fresh: bool) -> Call:
        """Ask for the log-probabilities of `ids[start:]`; `fresh`: computed without the cache."""
        ...

    def rated(self, reply: Reply, ids: Ids, start: int) -> Rated | None:
        """None where the answer, made with the cache, does not hold them: ask again, fresh."""
        ...


@dataclass(frozen=True)
class Ending:
    """Why a server of token ids stopped, and the rule that tells a stop string from the end.

    `reason` is the server's word, `matched` the stop it names: a text, an id, or None. `stop` and
    `stop_ids` are those that were asked for.
    """

    reason: str | None
    matched: Any
    stop: Sequence[str] = field(default=())
    stop_ids: Sequence[int] = field(default=())

    def of(self, ids: list[int], text: str) -> tuple[list[int], Finish]:
        """`ids` without an end-of-text id, and the reason in our words; `text` is theirs."""
        if self.reason == "length":
            return ids, "length"
        if self.reason in ("abort", "error"):
            raise EngineUnavailable(f"the server gave up the request: {self.matched}")
        if self.reason != "stop":
            raise EngineError(f"the server ended for a reason not known here: {self.reason}")
        if any(one in text for one in self.stop):
            return ids, "stop"
        last = self.matched if isinstance(self.matched, int) else ids[-1] if ids else None
        if last is not None and last in self.stop_ids:
            return ids if ids[-1:] == [last] else [*ids, last], "stop"
        if isinstance(self.matched, str):
            raise EngineError(f"the server stopped at {self.matched!r}, which nobody asked for")
        ends = self.matched if isinstance(self.matched, list) else [self.matched]
        if ids and (self.matched is None or ids[-1] in ends):
            return ids[:-1], "eos"
        return ids, "eos"


def choice_of(reply: Reply) -> Mapping[str, Any]:
    """The first of OpenAI's `choices`."""
    choices = reply.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise EngineError("the answer holds no choices")
    return choices[0]


def token_ids(found: Any) -> list[int]:
    if not isinstance(found, list) or not all(isinstance(one, int) for one in found):
        raise EngineError("the answer holds no token ids")
    return found


def cached_tokens(reply: Reply) -> int | None:
    """Cached prompt tokens as OpenAI's `usage` tells them; None where it does not."""
    details = (reply.get("usage") or {}).get("prompt_tokens_details") or {}
    found = details.get("cached_tokens")
    return found if isinstance(found, int) else None
