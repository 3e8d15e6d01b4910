"""Handle calls as pending results, without a cluster: errors come out as ours."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError
from ray.serve.exceptions import BackPressureError, RayServeException

from atts_core.engine import Generate, Rate, Sampling, ScriptedEngine, encode_characters, result
from atts_core.errors import EngineError, EngineUnavailable, PromptTooLong, ScoreMissing
from atts_core.types import EngineCost, History, Segment
from services import pools, remote_engine
from services.http_errors import described
from services.remote_engine import SENDS, RemoteCall, RemoteEngine, translated


def raised_remotely(cause: Exception) -> RayTaskError:
    """The error as a handle call raises it: the cause, with the replica's traceback around it."""
    error: RayTaskError = RayTaskError("score", "Traceback …", cause).as_instanceof_cause()
    return error


@pytest.mark.parametrize(
    "cause",
    [ScoreMissing("no log-probabilities"), PromptTooLong("300 tokens", field="messages")],
)
def test_our_own_errors_cross_the_process_border_as_they_are(cause: Exception) -> None:
    out = translated(raised_remotely(cause), "target")
    assert type(out) is type(cause)
    assert str(out) == str(cause)
    assert getattr(out, "field", None) == getattr(cause, "field", None)


def test_a_lost_replica_is_unavailable_and_may_be_tried_again() -> None:
    assert isinstance(translated(ActorDiedError(), "target"), EngineUnavailable)


def test_a_full_queue_is_unavailable_and_its_client_may_come_again() -> None:
    error = BackPressureError(num_queued_requests=3, max_queued_requests=2, retry_after_s=2.5)
    out = pickle.loads(pickle.dumps(translated(error, "target")))
    assert isinstance(out, EngineUnavailable)
    status, body, headers = described(out)
    assert (status, headers["Retry-After"]) == (429, "3")
    assert (body["error"]["type"], body["error"]["code"]) == ("rate_limit_error", "overloaded")


def test_any_other_failure_names_the_engine_in_one_line() -> None:
    out = translated(raised_remotely(ValueError("odd\nthing")), "target")
    assert type(out) is EngineError
    assert str(out) == "target: ValueError: odd"


class Response:
    """A handle's response: awaitable, cancellable."""

    def __init__(self, outcome: Any) -> None:
        self._outcome = outcome
        self.cancelled = False

    def __await__(self) -> Any:
        yield from asyncio.sleep(0).__await__()
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        return self._outcome

    def cancel(self) -> None:
        self.cancelled = True


def sent(*outcomes: Any) -> RemoteCall[int]:
    """A call whose first, second, … sending has these outcomes."""
    responses = iter(outcomes)
    return RemoteCall(lambda: Response(next(responses)), "draft")


async def test_a_call_is_done_when_it_has_an_outcome() -> None:
    call: RemoteCall[int] = RemoteCall(lambda: Response(5), "draft")
    assert not call.done()
    assert await call == 5
    assert call.done()


async def test_a_failed_call_is_done_and_raises_ours() -> None:
    call: RemoteCall[int] = sent(raised_remotely(ScoreMissing("none")))
    with pytest.raises(ScoreMissing):
        await call
    assert call.done()


async def test_cancelling_reaches_the_replica() -> None:
    response = Response(5)
    RemoteCall[int](lambda: response, "draft").cancel()
    assert response.cancelled


async def test_who_leaves_while_a_prompt_is_rendered_cancels_the_call() -> None:
    class Waits(Response):
        def __await__(self) -> Any:
            yield from asyncio.Event().wait().__await__()

    calls: list[Response] = []

    class Handle:
        """A handle whose replica never answers."""

        def options(self, **options: Any) -> Handle:
            return self

        @property
        def render(self) -> Handle:
            return self

        def remote(self, *arguments: Any) -> Response:
            calls.append(Waits(None))
            return calls[-1]

    known = ScriptedEngine(lambda seen, request: "").capabilities
    engine = RemoteEngine(Handle(), known)  # type: ignore[arg-type]
    rendering = asyncio.create_task(engine.render([]))
    while not calls:
        await asyncio.sleep(0)
    rendering.cancel()
    await asyncio.gather(rendering, return_exceptions=True)
    assert calls[0].cancelled


def upstream_lost() -> RayServeException:
    """How Serve says that the replica died whose result the call was to be given."""
    error = RayServeException("an upstream actor died")
    error.__cause__ = ActorDiedError()
    return error


@pytest.mark.parametrize(
    "lost", [ActorDiedError(), ActorUnavailableError("", None), upstream_lost()]
)
async def test_a_call_lost_with_its_replica_is_sent_again(lost: BaseException) -> None:
    call = sent(lost, 5)
    assert await call == 5
    assert call.done()


async def test_what_waits_for_a_lost_call_is_sent_again_with_it() -> None:
    """Serve would try for ever to hand on what was lost."""
    lost = asyncio.Event()

    class Stuck(Response):
        def __await__(self) -> Any:
            yield from lost.wait().__await__()
            raise ActorUnavailableError("", None)

        def cancel(self) -> None:
            super().cancel()
            lost.set()

    stuck = Stuck(None)
    drafting = sent(ActorUnavailableError("", None), 5)
    responses = iter([stuck, Response(7)])
    scoring: RemoteCall[int] = RemoteCall(lambda: next(responses), "target")
    drafting.feeds(scoring)
    assert await asyncio.gather(scoring, drafting) == [7, 5]
    assert stuck.cancelled


async def test_what_is_over_is_not_sent_again_with_a_lost_call() -> None:
    drafting = sent(ActorUnavailableError("", None), 5)
    scoring = sent(7)
    drafting.feeds(scoring)
    scoring.cancel()
    assert await drafting == 5


async def test_a_call_is_not_sent_for_ever() -> None:
    with pytest.raises(EngineUnavailable):
        await sent(*[ActorDiedError()] * SENDS, 5)


class Handle:
    """A deployment handle whose every call comes to the same."""

    def __init__(self, outcome: Any) -> None:
        self.generate = self.score = self
        self._outcome = outcome

    def options(self, **_: Any) -> Handle:
        return self

    def remote(self, *_: Any) -> Response:
        return Response(self._outcome)


async def test_a_lost_call_names_model_and_request() -> None:
    capabilities = ScriptedEngine(lambda seen, request: "", name="large").capabilities
    engine = RemoteEngine(Handle(ActorDiedError()), capabilities)
    history = History(encode_characters("?"))
    drafting = engine.generate(Generate("c7", history, 5, Sampling(), 0))
    with pytest.raises(EngineUnavailable, match=r"^large, c7: the replica was lost"):
        await drafting
    with pytest.raises(EngineUnavailable, match=r"^large, c7: the replica was lost"):
        await engine.score(Rate("c7", history), drafting)


async def test_a_call_that_failed_by_itself_is_not_sent_again() -> None:
    with pytest.raises(ScoreMissing):
        await sent(raised_remotely(ScoreMissing("none")), 5)


async def test_a_cancelled_call_is_not_sent_again() -> None:
    call = sent(ActorDiedError(), 5)
    call.cancel()
    with pytest.raises(EngineUnavailable):
        await call


# ------------------------------------------------------------- what aborted chains had cost


class Replica:
    """What a replica's deployment does, over an engine that writes `words`."""

    def __init__(self, name: str, words: str) -> None:
        self._name = name
        self._engine = ScriptedEngine(lambda seen, request: words)

    async def generate(self, request: Generate, trace: str | None = None) -> Segment:
        segment = await self._engine.generate(request)
        return replace(segment, cost=replace(segment.cost, replica=self._name))

    async def abort(self, received: dict[str, int], replica: str) -> EngineCost:
        assert replica == self._name
        return await self._engine.abort(received)


class PoolHandle:
    """A handle of some replicas: calls for a chain go `to` one, calls with a name to that one."""

    app_name, deployment_name = "remote", "engine"

    def __init__(self, **words: str) -> None:
        self._replicas = {name: Replica(name, said) for name, said in words.items()}
        self.to = next(iter(words))
        pools.tell(self.app_name, self.deployment_name, words)

    def options(self, session_id: str | None = None, **_: Any) -> Any:
        replica = self._replicas.get(session_id or "", self._replicas[self.to])
        calls = {name: getattr(replica, name) for name in ("generate", "abort")}
        return SimpleNamespace(
            options=self.options,
            app_name=self.app_name,
            deployment_name=self.deployment_name,
            **{
                name: SimpleNamespace(remote=partial(_called, call)) for name, call in calls.items()
            },
        )


def _called(call: Any, *arguments: Any) -> asyncio.Task[Any]:
    return asyncio.create_task(call(*arguments))


def engine_of(handle: PoolHandle) -> RemoteEngine:
    capabilities = ScriptedEngine(lambda seen, request: "").capabilities
    return RemoteEngine(handle, capabilities)  # type: ignore[arg-type]


def asked(engine: RemoteEngine, chain: str) -> RemoteCall[Segment]:
    call = engine.generate(Generate(chain, History(encode_characters("?")), 50, Sampling(), 0))
    assert isinstance(call, RemoteCall)
    return call


async def leave(call: RemoteCall[Segment], *, after: Callable[[RemoteCall[Segment]], bool]) -> None:
    """Cancel who waits for the call as soon as `after` says so, which is before it goes on."""
    waiting = asyncio.create_task(result(call))
    while not after(call):
        await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


def answered(call: RemoteCall[Segment]) -> bool:
    """The replica's answer is here, and the call has not gone on with it."""
    return bool(call.response.done()) and not call.done()


async def test_an_answer_that_came_to_a_cancelled_chain_is_told_by_its_replica() -> None:
    engine = engine_of(PoolHandle(a="four"))
    await asked(engine, "c")
    await leave(asked(engine, "c"), after=answered)
    assert (await engine.abort({"c": 1, "other": 0})).written_tokens == 4
    assert await engine.abort({"c": 1}) == EngineCost()


async def test_every_replica_that_had_the_chain_tells_what_was_not_received_from_it() -> None:
    """Also one that never answered: where a request goes is known when it is answered."""
    handle = PoolHandle(a="1", b="two two two", c="three")
    engine = engine_of(handle)
    for handle.to in ("a", "a", "b", "a"):
        await asked(engine, "chain")
    for handle.to in ("b", "c"):
        await leave(asked(engine, "chain"), after=answered)
    told = await engine.abort({"chain": 4})
    assert told.written_tokens == len("two two two") + len("three")


async def test_what_was_received_is_not_told_where_it_was_forgotten_from_whom(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(remote_engine, "REMEMBERED", 1)
    handle = PoolHandle(a="1", b="two")
    engine = engine_of(handle)
    for handle.to in ("a", "b"):
        await asked(engine, "chain")
    await asked(engine, "another")
    assert await engine.abort({"chain": 2}) == EngineCost()


async def test_a_pool_without_replicas_is_not_asked() -> None:
    engine = engine_of(PoolHandle(a="1"))
    pools.tell(PoolHandle.app_name, PoolHandle.deployment_name, ())
    assert await engine.abort({"chain": 0}) == EngineCost()
