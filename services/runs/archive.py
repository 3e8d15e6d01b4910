"""What routers tell each other of runs, through the store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

from atts_core.errors import AttsError, StoreUnavailable
from atts_core.events import Event

T = TypeVar("T")

Status: TypeAlias = Literal["running", "finished", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class Identity:
    """What is known of a run before it begins.

    `owner` stands for the API key that asked ("": nobody needs one), `key` is that client's
    idempotency key and `fingerprint` tells one request body from another. `question` is under
    which model, method and seed the answer is made; it never holds the prompt. `created` is in
    seconds since 1970.
    """

    id: str
    owner: str
    question: dict[str, Any]
    created: float
    key: str | None = None
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended: with its `reply`, or with an error's status and body, as its client got it.

    The error's code tells the ways to be cancelled apart: `run_cancelled` by its id, `client_left`
    as nobody waited for it any more, `server_stopped` with its router.
    `released`: the same idempotency key begins a new run. Not `kept`: it found no room, and the
    archive forgets that it was claimed.
    """

    status: Status
    ended: float
    reply: dict[str, Any] | None = None
    error: tuple[int, dict[str, Any]] | None = None
    released: bool = False
    kept: bool = True


@dataclass(frozen=True, slots=True)
class Upload:
    """A run's events from the `first` on; its end once these are all."""

    identity: Identity
    first: int
    events: tuple[Event, ...]
    ending: Ending | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the archive has of the runs that were uploaded, and what is wanted of them.

    `events` counts what is there by run; `ended` are runs that are there whole; `cancelled` are
    to be cancelled; `followed` have a reader at another router.
    """

    events: dict[str, int]
    ended: frozenset[str] = frozenset()
    cancelled: frozenset[str] = frozenset()
    followed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Claim:
    """Whose run an idempotency key stands for, and the fingerprint of the request it began with."""

    run_id: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Page:
    """Some of a run's events, as JSON objects, and how it stands; `next` is where to go on."""

    identity: Identity
    status: Status
    events: list[dict[str, Any]]
    next: int
    more: bool
    ending: Ending | None = None


class RunArchive(Protocol):
    """The runs of all routers. Any call may raise: the store is another process."""

    async def upload(self, router: str, runs: list[Upload]) -> Receipt:
        """Keep what is new; repeating a call does no harm."""
        ...

    async def claim(self, router: str, identity: Identity) -> Claim:
        """The run that the identity's key stands for: its own where the key was free."""
        ...

    async def read(self, run_id: str, owner: str, after: int, limit: int) -> Page | None:
        """At most `limit` events beyond the first `after`; None where the owner has no such run."""
        ...

    async def follow(self, run_id: str, owner: str, router: str, after: int) -> Page | None:
        """The same for a router whose clients wait for the run: it counts as one of them."""
        ...

    async def leave(self, run_id: str, router: str) -> None:
        """Nobody at that router waits for the run any more."""
        ...

    async def cancel(self, run_id: str, owner: str) -> Page | None:
        """Ask the run's router to cancel it; how it stands, without events."""
        ...


async def reached(call: Awaitable[T], within: float) -> T:
    """What the archive answers; `StoreUnavailable` where it fails or takes longer (seconds)."""
    try:
        async with asyncio.timeout(within):
            return await call
    except TimeoutError:
        raise StoreUnavailable(f"the store gave no answer within {within:g} s") from None
    except AttsError as error:
        raise StoreUnavailable(f"the store does not answer: {error}") from None
