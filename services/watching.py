"""Who watches requests and runs: metrics, logs, traces. Each is told; none is asked.

An `Exchange` is one HTTP request from its arrival to its last byte, a `SeenRun` one run from its
call to its end. A watcher opens a context around either and reads what was found out on its way
out. Nothing of it waits, and what a watcher does with it later is no request's concern.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from time import monotonic
from typing import Protocol, TypeAlias

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from atts_core import events
from atts_core.errors import BadInput
from atts_core.settings import Method
from atts_core.types import Message as ChatMessage
from atts_core.usage import Usage
from services.metrics.split import Split

UNROUTED = "other"
"""The route of a request that none was found for, or that was refused before."""
CLIENT_LEFT = 499
"""The status of a request whose client left before its response began, as nginx counts it."""
LONGEST_ID = 128
"""Characters of a client's request id that are kept."""
PAGE_FILES = "/web/{file}"
RUN_HEADER = "x-atts-run"

Consumer: TypeAlias = Callable[[events.Event], None]


@dataclass(eq=False)
class Exchange:
    """One HTTP request; times are seconds on the monotonic clock, `at` seconds since 1970."""

    id: str
    method: str
    path: str
    headers: Headers
    at: float
    began: float
    route: str = UNROUTED
    status: int | None = None
    first_byte: float | None = None
    ended: float | None = None
    run: str | None = None
    """The id of the run that answers it."""
    key: str | None = None
    """The name of its API key."""
    error: str | None = None
    """The code of the error it is answered with."""
    left: bool = False
    """Its client was gone before the last byte."""
    trace: str | None = None
    """Its trace id, where it is traced."""

    @property
    def seconds(self) -> float:
        return (self.ended or monotonic()) - self.began

    @property
    def first_byte_seconds(self) -> float | None:
        return None if self.first_byte is None else self.first_byte - self.began


@dataclass(eq=False)
class SeenRun:
    """One run: how it was asked for, and what its events come to so far."""

    id: str
    method: Method
    seed: int
    messages: tuple[ChatMessage, ...]
    usage: Usage
    began: float = field(default_factory=monotonic)
    split: Split = field(default_factory=Split)
    answer: events.AnswerReady | None = None
    reason: str = "running"
    """Why it ended: why no chain ran any more, or refused, failed, cancelled."""
    ended: float | None = None

    @property
    def answered(self) -> bool:
        return self.answer is not None and self.reason == self.answer.answer.stopped

    @property
    def seconds(self) -> float:
        return (self.ended or monotonic()) - self.began

    @property
    def stages(self) -> dict[str, float]:
        """Its seconds by stage; they add up to `seconds`."""
        return self.split.seconds(self.seconds)

    def __call__(self, event: events.Event) -> None:
        self.split.add(event)
        if isinstance(event, events.AnswerReady):
            self.answer = event

    def end(self, reason: str) -> None:
        self.reason, self.ended = reason, monotonic()


class Watcher(Protocol):
    """Opens a context around each request and each run; what it is told of is complete at the end.

    A run is entered where it runs: once, however many requests wait for it.
    """

    def request(self, exchange: Exchange) -> AbstractContextManager[None]: ...
    def run(self, run: SeenRun) -> AbstractContextManager[Consumer]: ...


CURRENT: ContextVar[Exchange | None] = ContextVar("exchange", default=None)
"""The request that this task works for."""


@contextmanager
def followed(watchers: Sequence[Watcher], run: SeenRun) -> Iterator[Consumer]:
    """Let `watchers` follow `run`: its events go to the consumer."""
    if not watchers:
        yield lambda event: None
        return
    with ExitStack() as stack:
        consumers: list[Consumer] = [run]
        consumers += (stack.enter_context(watcher.run(run)) for watcher in watchers)

        def tell(event: events.Event) -> None:
            for consumer in consumers:
                consumer(event)

        try:
            yield tell
        except BaseException as error:
            run.end(_reason(error))
            raise
        run.end("failed" if run.answer is None else run.answer.answer.stopped)


def _reason(error: BaseException) -> str:
    match error:
        case BadInput():
            return "refused"
        case asyncio.CancelledError() | GeneratorExit():
            return "cancelled"
        case BaseExceptionGroup() if not error.split(asyncio.CancelledError)[1]:
            return "cancelled"
        case _:
            return "failed"


def _code(body: bytes) -> str | None:
    """The code of the error in a response's body, or its type; None where it is no such body."""
    try:
        error = json.loads(body)["error"]
        return str(error["code"] or error["type"])
    except (ValueError, LookupError, TypeError):
        return None


def _template(scope: Scope) -> str:
    """The route's template. Whatever a client makes up is one, and so are the page's files."""
    path = getattr(scope.get("route"), "path", None) or UNROUTED
    return PAGE_FILES if path.startswith("/web/") else path


class Watch:
    """ASGI middleware, the outermost: an exchange for each request, shown to the watchers.

    Serve's proxy has given each request an id, the client's `X-Request-ID` where it sent one.
    """

    def __init__(self, app: ASGIApp, watchers: Sequence[Watcher]) -> None:
        self._app = app
        self._watchers = watchers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._watchers:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        exchange = Exchange(
            id=headers.get("x-request-id", "")[:LONGEST_ID] or uuid.uuid4().hex,
            method=scope["method"],
            path=scope["path"],
            headers=headers,
            at=time.time(),
            began=monotonic(),
        )
        complete = False

        async def sent(message: Message) -> None:
            nonlocal complete
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                exchange.first_byte = monotonic()
                exchange.run = Headers(raw=message["headers"]).get(RUN_HEADER)
            else:
                complete = not message.get("more_body", False)
                if exchange.status is not None and exchange.status >= 400:
                    exchange.error = exchange.error or _code(message.get("body", b""))
            await send(message)

        token = CURRENT.set(exchange)
        try:
            with ExitStack() as stack:
                for watcher in self._watchers:
                    stack.enter_context(watcher.request(exchange))
                try:
                    await self._app(scope, receive, sent)
                except Exception:
                    exchange.status = exchange.status or 500
                    raise
                finally:
                    exchange.ended = monotonic()
                    exchange.left = not complete or exchange.status == CLIENT_LEFT
                    exchange.status = exchange.status or CLIENT_LEFT
                    exchange.route = _template(scope)
        finally:
            CURRENT.reset(token)
