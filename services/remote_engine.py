"""The Engine protocol over a deployment handle: the algorithm cannot tell it from a local one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Any, Generic, TypeVar, cast

from ray.exceptions import RayActorError, RayError, RayTaskError, TaskCancelledError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from atts_core.engine import Capabilities, Generate, Pending, Rate, Ready
from atts_core.errors import AttsError, EngineError, EngineUnavailable
from atts_core.types import Ids, Message, Scored, Segment
from services.tracing.context import TRACEPARENT

T = TypeVar("T")

SENDS = 3
"""Times a call is made at most, each but the last lost with its replica: once more elsewhere, and
once more where that replica is lost too, as two are with a node that holds both."""


class RemoteEngine:
    """A pool of replicas behind a handle. Segments cross from pool to pool as object refs.

    Requests of one chain go to one replica (`services.affinity`). A replica that is lost costs its
    chains their KV: what it had not answered is sent again, to another.
    """

    def __init__(self, handle: DeploymentHandle, capabilities: Capabilities) -> None:
        # By reference: a mode of Serve that sends by value could not pass a pending segment on.
        self._handle = handle.options(_by_reference=True)
        self._capabilities = capabilities

    @classmethod
    async def connect(cls, handle: DeploymentHandle) -> RemoteEngine:
        """Wait until a replica is up and tells what it can do."""
        return cls(handle, await handle.capabilities.remote())

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def render(self, messages: Sequence[Message]) -> Ids:
        return await RemoteCall[Ids](lambda: self._handle.render.remote(list(messages)), self._name)

    def generate(self, request: Generate) -> Pending[Segment]:
        replica, trace = self._handle.options(session_id=request.chain), TRACEPARENT.get()
        return RemoteCall(
            lambda: replica.generate.remote(request, trace), f"{self._name}, {request.chain}"
        )

    def score(self, request: Rate, segment: Pending[Segment]) -> Pending[Scored]:
        replica, trace = self._handle.options(session_id=request.chain), TRACEPARENT.get()

        def send() -> Any:
            if isinstance(segment, RemoteCall):
                return replica.score.remote(request, segment.response, trace)
            passed = segment.value if isinstance(segment, Ready) else segment
            return replica.score.remote(request, passed, trace)

        scoring: RemoteCall[Scored] = RemoteCall(send, f"{self._name}, {request.chain}")
        if isinstance(segment, RemoteCall):
            segment.feeds(scoring)
        return scoring

    async def status(self) -> dict[str, Any]:
        """What one replica says of its running and waiting requests."""
        return cast("dict[str, Any]", await self._handle.status.remote())

    @property
    def _name(self) -> str:
        return self._capabilities.model


class RemoteCall(Generic[T]):
    """A `Pending` over a handle call; Serve's errors come out as ours.

    `send` makes the call, and makes it again where a replica was lost with it: a request says all
    that decides its result. Calls that were given its result are then sent again with it. Errors
    begin with `who`, the model and the request.
    """

    def __init__(self, send: Callable[[], Any], who: str) -> None:
        self._send = send
        self._sends = 1
        self.response = send()
        self._who = who
        self._done = False
        self._fed: list[RemoteCall[Any]] = []

    def feeds(self, call: RemoteCall[Any]) -> None:
        """`call` was given this one's result to come."""
        self._fed.append(call)

    def __await__(self) -> Generator[Any, None, T]:
        return self._result().__await__()

    async def _result(self) -> T:
        while True:
            response = self.response
            try:
                result = await cast("Awaitable[T]", response)
            except asyncio.CancelledError:
                raise
            except BaseException as error:
                if self.response is not response:
                    continue  # sent again meanwhile, with what it waits for
                if not self._done and self._sends < SENDS and replica_lost(error):
                    self._sends += 1
                    self._send_again()
                    continue
                self._ended()
                raise translated(error, self._who) from None
            self._ended()
            return result

    def _send_again(self) -> None:
        self.response = self._send()
        for call in self._fed:
            if not call.done():
                # Not left to fail by itself: Serve (2.60) takes an input that was lost with an
                # unreachable replica for a failure of the one it sends to, and tries for ever.
                call.response.cancel()
                call._send_again()

    def _ended(self) -> None:
        self._done = True
        self._fed.clear()  # they hold this call too: a circle would keep both

    def done(self) -> bool:
        return self._done

    def cancel(self) -> None:
        """Reaches the replica and cancels the request there; a call merely dropped would go on."""
        self._ended()
        self.response.cancel()


def replica_lost(error: BaseException) -> bool:
    """Whether a replica died with the call, or with the call whose result it waited for."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    if isinstance(cause, RayServeException):  # how Serve wraps the second
        cause = cause.__cause__ or cause
    return isinstance(cause, RayActorError)


def translated(error: BaseException, who: str) -> BaseException:
    """A failure of a handle call as one of our errors, without the remote traceback."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    match cause:
        case AttsError():
            return cause
        case RayActorError() | TaskCancelledError():
            return EngineUnavailable(f"{who}: the replica was lost with the request")
        case RayTaskError():
            return translated(cause, who) if cause is not error else EngineError(f"{who}: {cause}")
        case RayError() | RayServeException():
            return EngineUnavailable(f"{who}: {type(cause).__name__}: {first_line(cause)}")
        case _:
            return EngineError(f"{who}: {type(cause).__name__}: {first_line(cause)}")


def first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0]
