"""The Engine protocol over a deployment handle: the algorithm cannot tell it from a local one."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from functools import partial
from typing import Any, Generic, TypeVar, cast

from ray import serve
from ray.exceptions import RayActorError, RayError, RayTaskError, TaskCancelledError
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.handle import DeploymentHandle

from atts_core.engine import Capabilities, Generate, Pending, Rate, Ready, result
from atts_core.errors import AttsError, EngineError, EngineFull, EngineUnavailable
from atts_core.types import EngineCost, Ids, Message, Scored, Segment
from services import pools
from services.tracing.context import TRACEPARENT

log = logging.getLogger(__name__)

T = TypeVar("T")

RETRY_SECONDS = 1.0
"""When to come again where a pool's queue is full and Serve names no time."""
SENDS = 3
"""Times a call is made at most, each but the last lost with its replica: once more elsewhere, and
once more where that replica is lost too, as two are with a node that holds both."""
REMEMBERED = 10_000
"""Chains of which it is known who served them."""
ABORT_SECONDS = 2.0
"""How long an answer waits at most for what its cancelled requests had cost."""


class RemoteEngine:
    """A pool of replicas behind a handle. Segments cross from pool to pool as object refs.

    Requests of one chain go to one replica (`services.affinity`). A replica that is lost costs its
    chains their KV: what it had not answered is sent again, to another.
    """

    def __init__(self, handle: DeploymentHandle, capabilities: Capabilities) -> None:
        # By reference: a mode of Serve that sends by value could not pass a pending segment on.
        self._handle = handle.options(_by_reference=True)
        self._capabilities = capabilities
        self._received: dict[str, Counter[str]] = {}
        """How many results of a chain each replica has given, for some thousands of chains."""
        self._asking: asyncio.Task[Any] | None = None

    @classmethod
    async def connect(cls, handle: DeploymentHandle) -> RemoteEngine:
        """Wait until a replica is up and tells what it can do."""
        return cls(handle, await handle.capabilities.remote())

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def render(self, messages: Sequence[Message]) -> Ids:
        return await result(
            RemoteCall[Ids](lambda: self._handle.render.remote(list(messages)), self._name)
        )

    def generate(self, request: Generate) -> Pending[Segment]:
        replica, trace = self._handle.options(session_id=request.chain), TRACEPARENT.get()
        send = partial(replica.generate.remote, request, trace)
        who = f"{self._name}, {request.chain}"
        return RemoteCall[Segment](send, who, self._note(request.chain))

    def score(self, request: Rate, segment: Pending[Segment]) -> Pending[Scored]:
        replica, trace = self._handle.options(session_id=request.chain), TRACEPARENT.get()

        def send() -> Any:
            if isinstance(segment, RemoteCall):
                return replica.score.remote(request, segment.response, trace)
            passed = segment.value if isinstance(segment, Ready) else segment
            return replica.score.remote(request, passed, trace)

        who = f"{self._name}, {request.chain}"
        scoring = RemoteCall[Scored](send, who, self._note(request.chain))
        if isinstance(segment, RemoteCall):
            segment.feeds(scoring)
        return scoring

    async def abort(self, received: Mapping[str, int]) -> EngineCost:
        """What the replicas tell: each is asked once, for any may have had what was under way.

        One that is away tells nothing.
        """
        by_chain = {chain: self._received.pop(chain, Counter()) for chain in received}
        replicas = pools.replicas(self._handle.app_name, self._handle.deployment_name)
        if replicas is None:
            replicas = tuple({replica for by in by_chain.values() for replica in by})

        def of(replica: str) -> dict[str, int]:
            # Where it was forgotten who gave what: too little is told rather than anything twice.
            return {
                chain: by_chain[chain][replica] if by_chain[chain].total() == count else count
                for chain, count in received.items()
            }

        told = await asyncio.gather(*(self._abort(one, of(one)) for one in replicas))
        return EngineCost.total(told)

    async def _abort(self, replica: str, received: dict[str, int]) -> EngineCost:
        """What that replica tells."""
        handle = self._handle.options(session_id=replica)
        call = RemoteCall[EngineCost](lambda: handle.abort.remote(received, replica), self._name)
        try:
            async with asyncio.timeout(ABORT_SECONDS):
                return await result(call)
        except (EngineError, TimeoutError) as error:
            log.warning(
                "%s: what %d chains had cost is unknown: %s", self._name, len(received), error
            )
            return EngineCost()

    async def status(self) -> dict[str, Any]:
        """What one replica says of its running and waiting requests.

        A pool that was scaled to zero says `asleep`, and goes on sleeping: a call would start a
        replica. Raises EngineUnavailable where all replicas are lost.
        """
        if pools.replicas(self._handle.app_name, self._handle.deployment_name) == ():
            return await self._without_replicas()
        return cast("dict[str, Any]", await self._handle.status.remote())

    def _note(self, chain: str) -> Callable[[Segment | Scored], None]:
        """Remembers which replica has answered for the chain."""

        def note(answered: Segment | Scored) -> None:
            known = self._received.pop(chain, None) or Counter()
            known[answered.cost.replica] += 1
            self._received[chain] = known
            if len(self._received) > REMEMBERED:
                del self._received[next(iter(self._received))]

        return note

    async def _without_replicas(self) -> dict[str, Any]:
        """Whether that is what the pool's own scaling wants; only Serve's controller knows."""
        if self._asking is None or self._asking.done():
            # One question at a time: a controller that is away holds one thread, not one a poll.
            self._asking = asyncio.create_task(asyncio.to_thread(serve.status))
        found = (await asyncio.shield(self._asking)).applications[self._handle.app_name]
        pool = found.deployments[self._handle.deployment_name]
        if pool.status == "HEALTHY" or pool.status_trigger == "AUTOSCALING":
            return {"asleep": True, "running": 0, "waiting": 0}
        raise EngineUnavailable(f"{self._name}: no replica is up: {pool.message or pool.status}")

    @property
    def _name(self) -> str:
        return self._capabilities.model


class RemoteCall(Generic[T]):
    """A `Pending` over a handle call; Serve's errors come out as ours.

    `send` makes the call, and makes it again where a replica was lost with it: a request says all
    that decides its result. Calls that were given its result are then sent again with it. Errors
    begin with `who`, the model and the request.
    """

    def __init__(
        self, send: Callable[[], Any], who: str, seen: Callable[[T], None] | None = None
    ) -> None:
        """`who` is named in errors; `seen` is shown the result."""
        self._send = send
        self._seen = seen
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
            if self._seen is not None:
                self._seen(result)
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
        case BackPressureError():
            return EngineFull(
                f"{who}: {first_line(cause)}", retry_after=cause.retry_after_s or RETRY_SECONDS
            )
        case RayError() | RayServeException():
            return EngineUnavailable(f"{who}: {type(cause).__name__}: {first_line(cause)}")
        case _:
            return EngineError(f"{who}: {type(cause).__name__}: {first_line(cause)}")


def first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0]
